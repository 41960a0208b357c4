//! Ed25519 with one rule: strict and cofactorless (RFC 8032 with the checks of `verify_strict`).

use ed25519_dalek::{Signature as DalekSignature, Signer, VerifyingKey};

use crate::hash::short;
use crate::refused::Refused;

/// An Ed25519 public key: an author.
pub type Key = [u8; 32];
/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// Returns nothing when `signature` is the author's over `message`; refuses everything else.
///
/// Besides `verify_strict` a key that is not in canonical form is refused, as libsodium does.
pub fn verify_strict(author: &Key, message: &[u8], signature: &Signature) -> Result<(), Refused> {
    let bad = |why: &str| Refused::Signature(format!("signature of {}..: {why}", short(author)));
    if !is_canonical(author) {
        return Err(bad("the key is not canonical"));
    }
    let key = VerifyingKey::from_bytes(author).map_err(|_| bad("the key is not a point of the curve"))?;
    key.verify_strict(message, &DalekSignature::from_bytes(signature)).map_err(|_| bad("does not verify"))
}

/// Whether the y coordinate is below the field's prime 2^255 - 19.
fn is_canonical(point: &Key) -> bool {
    let top = point[31] & 0x7f;
    !(top == 0x7f && point[1..31].iter().all(|&byte| byte == 0xff) && point[0] >= 0xed)
}

/// A key pair. Its `Debug` shows the public half only; the seed is wiped on drop.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    #[must_use]
    pub fn public(&self) -> Key {
        self.0.verifying_key().to_bytes()
    }

    /// Signs `message`, in front of which the caller has put a domain string.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({}..)", short(&self.public()))
    }
}
