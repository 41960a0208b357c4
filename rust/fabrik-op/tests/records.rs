//! The genesis record and ephemeral messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

use fabrik_op::cbor::Writer;
use fabrik_op::{Genesis, Refused, SigningKey, encode_genesis, sign_ephemeral, verify_ephemeral};

fn genesis() -> Vec<u8> {
    encode_genesis(&[3; 32], "mesh", &[4; 16], 5).unwrap()
}

#[test]
fn a_genesis_record_comes_back() {
    let decoded = Genesis::decode(&genesis()).unwrap();
    assert_eq!((decoded.admin, decoded.name.as_str(), decoded.created_ms), ([3; 32], "mesh", 5));
    let mut later = genesis();
    later[0] += 1;
    later.extend_from_slice(&[6, 0x81, 0xf6]);
    let kept = Genesis::decode(&later).unwrap();
    assert_ne!(kept.mesh_id, decoded.mesh_id);
}

#[test]
fn a_genesis_record_is_strict() {
    for (name, created_ms) in [("", 1), (&"x".repeat(65), 1), ("x", (1 << 53) + 1)] {
        assert!(matches!(encode_genesis(&[3; 32], name, &[4; 16], created_ms), Err(Refused::Genesis(_))));
    }
    let whole = genesis();
    for end in 0..whole.len() {
        assert!(matches!(Genesis::decode(&whole[..end]), Err(Refused::Genesis(_))));
    }
    let mut version = whole.clone();
    version[2] = 2;
    assert_eq!(Genesis::decode(&version).unwrap_err().to_string(), "genesis record: byte 2: an unknown version");
    let mut trailing = whole;
    trailing.push(0);
    assert!(Genesis::decode(&trailing).is_err());
    assert!(Genesis::decode(&vec![0; 70_000]).is_err());
}

#[test]
fn an_ephemeral_message_is_bound_to_mesh_author_counter_and_payload() {
    let key = SigningKey::from_seed(&[1; 32]);
    let mesh = [2; 32];
    let payload = Writer::new().map(1).text("name").text("n").as_bytes().to_vec();
    let data = sign_ephemeral(&key, &mesh, 300, &payload).unwrap();
    let message = verify_ephemeral(&mesh, &data).unwrap();
    assert_eq!((message.author, message.counter, message.payload), (key.public(), 300, &payload[..]));
    assert!(matches!(verify_ephemeral(&[3; 32], &data), Err(Refused::Signature(_))));
    for place in 0..data.len() {
        let mut damaged = data.clone();
        damaged[place] ^= 1;
        assert!(verify_ephemeral(&mesh, &damaged).is_err());
    }
    let number = Writer::new().map(1).uint(1).uint(1).as_bytes().to_vec();
    assert!(matches!(sign_ephemeral(&key, &mesh, 1, &number), Err(Refused::Invalid(_))));
}
