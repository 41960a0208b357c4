//! Ephemeral messages: signed, the latest per author, never stored.

use crate::cbor::{Head, Malformed, Reader, Writer};
use crate::hash::Digest;
use crate::key::{Key, Signature, SigningKey, verify_strict};
use crate::limits::OP_BYTES_MAX;
use crate::refused::Refused;

/// An ephemeral message whose signature verifies. The payload borrows the message's bytes: a CBOR map with text keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ephemeral<'a> {
    pub author: Key,
    pub counter: u64,
    pub payload: &'a [u8],
}

/// Signs `payload`, the canonical encoding of a map with text keys.
pub fn sign_ephemeral(key: &SigningKey, mesh_id: &Digest, counter: u64, payload: &[u8]) -> Result<Vec<u8>, Refused> {
    let author = key.public();
    let signature = key.sign(&message(mesh_id, &author, counter, payload));
    let mut writer = Writer::with_capacity(payload.len() + 128);
    writer.array(5).uint(1).bytes(&author).uint(counter).raw(payload).bytes(&signature);
    let data = writer.into_bytes();
    decode(&data)?;
    Ok(data)
}

/// Decodes and checks the signature.
pub fn verify_ephemeral<'a>(mesh_id: &Digest, data: &'a [u8]) -> Result<Ephemeral<'a>, Refused> {
    let (ephemeral, signature) = decode(data)?;
    let signed = message(mesh_id, &ephemeral.author, ephemeral.counter, ephemeral.payload);
    verify_strict(&ephemeral.author, &signed, &signature).map_err(|refused| refused.at("ephemeral message"))?;
    Ok(ephemeral)
}

fn decode(data: &[u8]) -> Result<(Ephemeral<'_>, Signature), Refused> {
    if data.len() > OP_BYTES_MAX {
        return Err(Refused::invalid(format!("ephemeral message: {} bytes are more than {OP_BYTES_MAX}", data.len())));
    }
    read(data).map_err(|malformed| Refused::invalid(format!("ephemeral message: {malformed}")))
}

fn read(data: &[u8]) -> Result<(Ephemeral<'_>, Signature), Malformed> {
    let mut reader = Reader::new(data);
    reader.array_of(5, "expected [version, author, counter, payload, sig]")?;
    reader.uint_in(1..=1, "an unknown version")?;
    let author = reader.bytes_of::<32>("the author must be 32 bytes")?;
    let counter = reader.uint()?;
    let start = reader.at();
    let count = reader.map()?;
    let mut before: &[u8] = &[];
    for _ in 0..count {
        let at = reader.at();
        if !matches!(reader.key(&mut before)?, Head::Text(_)) {
            return Err(reader.broken(at, "a payload key that is not a text"));
        }
        reader.item(2)?;
    }
    let payload = reader.since(start);
    let signature = reader.bytes_of::<64>("the signature must be 64 bytes")?;
    reader.end()?;
    Ok((Ephemeral { author, counter, payload }, signature))
}

fn message(mesh_id: &Digest, author: &Key, counter: u64, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(92 + payload.len());
    message.extend_from_slice(b"fabrik/v1/ephemeral\0");
    message.extend_from_slice(mesh_id);
    message.extend_from_slice(author);
    message.extend_from_slice(&counter.to_be_bytes());
    message.extend_from_slice(payload);
    message
}
