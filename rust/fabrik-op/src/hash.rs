//! Digests and their domains. Every hash of more than an op's own bytes has a derivation string of its own.

use crate::key::Key;

/// BLAKE3-256.
pub type Digest = [u8; 32];

/// BLAKE3-256 of `data`; of an op's bytes it is the op's digest.
#[must_use]
#[inline]
pub fn blake3(data: &[u8]) -> Digest {
    *::blake3::hash(data).as_bytes()
}

/// The mesh id of a genesis record's bytes.
#[must_use]
pub fn mesh_id(genesis: &[u8]) -> Digest {
    ::blake3::derive_key("fabrik 2026 v1 mesh id", genesis)
}

/// `h_0`: where a log starts. Binds the chain to its mesh, author and epoch.
#[must_use]
pub fn log_start(mesh_id: &Digest, author: &Key, epoch: u64) -> Digest {
    let mut material = [0; 72];
    material[..32].copy_from_slice(mesh_id);
    material[32..64].copy_from_slice(author);
    material[64..].copy_from_slice(&epoch.to_be_bytes());
    ::blake3::derive_key("fabrik 2026 v1 log start", &material)
}

/// `h_i` from `h_{i-1}` and the digest of op `i`.
#[must_use]
#[inline]
pub fn chain(before: &Digest, digest: &Digest) -> Digest {
    let mut both = [0; 64];
    both[..32].copy_from_slice(before);
    both[32..].copy_from_slice(digest);
    blake3(&both)
}

/// The message that an author signs for the head at `seq`; `lamport` is that op's, as written.
#[must_use]
pub fn head_message(mesh_id: &Digest, author: &Key, epoch: u64, seq: u64, lamport: u64, head: &Digest) -> Vec<u8> {
    let mut message = Vec::with_capacity(135);
    message.extend_from_slice(b"fabrik/v1/head\0");
    message.extend_from_slice(mesh_id);
    message.extend_from_slice(author);
    message.extend_from_slice(&epoch.to_be_bytes());
    message.extend_from_slice(&seq.to_be_bytes());
    message.extend_from_slice(&lamport.to_be_bytes());
    message.extend_from_slice(head);
    message
}

/// The commitment to a key that will follow another one.
#[must_use]
pub fn next_key(key: &Key) -> Digest {
    ::blake3::derive_key("fabrik 2026 v1 next key", key)
}

/// The message that a new key signs for the place at which the old key names it: the op at `seq` behind `before` (`h_{seq-1}`). `rest` is the rotation without its signature.
#[must_use]
pub fn rotation_message(mesh_id: &Digest, old: &Key, epoch: u64, seq: u64, before: &Digest, rest: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(131 + rest.len());
    message.extend_from_slice(b"fabrik/v1/rotation\0");
    message.extend_from_slice(mesh_id);
    message.extend_from_slice(old);
    message.extend_from_slice(&epoch.to_be_bytes());
    message.extend_from_slice(&seq.to_be_bytes());
    message.extend_from_slice(before);
    message.extend_from_slice(rest);
    message
}

/// The id of the register of a step: the item's, then what tells its name.
#[must_use]
pub fn step_id(item: &[u8; 16], name: &str) -> [u8; 32] {
    let digest = ::blake3::derive_key("fabrik 2026 v1 step", name.as_bytes());
    let mut id = [0; 32];
    for (to, from) in id.iter_mut().zip(item.iter().chain(&digest)) {
        *to = *from;
    }
    id
}

/// The rank of a claim among claims of one receipt and epoch: the *lower* digest ranks higher. A fenced register's id begins with its item's, which are 16 bytes.
#[must_use]
pub fn claim_rank(id: &[u8], claim_id: &[u8; 16]) -> Digest {
    let mut hasher = ::blake3::Hasher::new();
    hasher.update(id.get(..16).unwrap_or(id)).update(claim_id);
    *hasher.finalize().as_bytes()
}

/// The first 8 hex digits, for messages.
#[must_use]
pub fn short(bytes: &[u8]) -> String {
    bytes.iter().take(4).fold(String::with_capacity(8), |text, byte| text + &format!("{byte:02x}"))
}
