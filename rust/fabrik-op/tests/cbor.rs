//! The strict decoder: what it takes re-encodes to the same bytes, and everything else is refused with a reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

use fabrik_op::cbor::{Head, Malformed, Reader, Writer};
use fabrik_op::limits::DEPTH_MAX;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Uint(u64),
    Negative(i64),
    Bytes(Vec<u8>),
    Text(String),
    Bool(bool),
    Null,
    Array(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

fn encode(writer: &mut Writer, value: &Value) {
    match value {
        Value::Uint(number) => {
            writer.uint(*number);
        }
        Value::Negative(number) => {
            writer.int(*number);
        }
        Value::Bytes(bytes) => {
            writer.bytes(bytes);
        }
        Value::Text(text) => {
            writer.text(text);
        }
        Value::Bool(flag) => {
            writer.bool(*flag);
        }
        Value::Null => {
            writer.null();
        }
        Value::Array(items) => {
            writer.array(items.len());
            for item in items {
                encode(writer, item);
            }
        }
        Value::Map(pairs) => {
            assert!(writer.sorted_map(pairs.iter().map(|(key, value)| (encoded(key), encoded(value))).collect()));
        }
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut writer = Writer::new();
    encode(&mut writer, value);
    writer.into_bytes()
}

fn decode(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    let start = reader.at();
    Ok(match reader.head()? {
        Head::Uint(number) => Value::Uint(number),
        Head::Negative(number) => Value::Negative(number),
        Head::Bytes(length) => Value::Bytes(reader.take(length).to_vec()),
        Head::Text(length) => Value::Text(reader.utf8(start, length)?.to_owned()),
        Head::Bool(flag) => Value::Bool(flag),
        Head::Null => Value::Null,
        Head::Array(count) => Value::Array((0..count).map(|_| decode(reader)).collect::<Result<_, _>>()?),
        Head::Map(count) => {
            let mut before: &[u8] = &[];
            let mut pairs = Vec::new();
            for _ in 0..count {
                reader.key(&mut before)?;
                let key = decode(&mut Reader::new(before))?;
                pairs.push((key, decode(reader)?));
            }
            Value::Map(pairs)
        }
    })
}

fn whole(data: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(data);
    let item = reader.item(0)?;
    reader.end()?;
    Ok(item)
}

fn key() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::Uint),
        (i64::MIN..0).prop_map(Value::Negative),
        vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        ".{0,12}".prop_map(Value::Text)
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![key(), any::<bool>().prop_map(Value::Bool), Just(Value::Null), prop::sample::select(EDGES).prop_map(Value::Uint)];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec((key(), inner), 0..6).prop_map(|mut pairs| {
                pairs.sort_by_key(|(key, _)| encoded(key));
                pairs.dedup_by_key(|(key, _)| encoded(key));
                Value::Map(pairs)
            })
        ]
    })
}

/// Both sides of every change of an integer's width.
const EDGES: &[u64] = &[0, 23, 24, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::default() })]

    #[test]
    fn every_value_comes_back(value in value()) {
        let data = encoded(&value);
        prop_assert_eq!(whole(&data), Ok(&data[..]));
        let mut reader = Reader::new(&data);
        prop_assert_eq!(decode(&mut reader), Ok(value));
        prop_assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn what_is_taken_is_canonical(data in vec(any::<u8>(), 0..64)) {
        if whole(&data).is_ok() {
            let value = decode(&mut Reader::new(&data)).unwrap();
            prop_assert_eq!(encoded(&value), data);
        }
    }

    #[test]
    fn one_changed_byte_is_refused_or_canonical(value in value(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut data = encoded(&value);
        let place = place.index(data.len());
        data[place] = byte;
        if whole(&data).is_ok() {
            prop_assert_eq!(encoded(&decode(&mut Reader::new(&data)).unwrap()), data);
        }
    }

    #[test]
    fn every_cut_is_refused(value in value(), place in any::<prop::sample::Index>()) {
        let data = encoded(&value);
        prop_assert!(whole(&data[..place.index(data.len())]).is_err());
    }
}

#[test]
fn each_rule_has_its_reason() {
    let cases: &[(&[u8], usize, &str)] = &[
        (&[], 0, "the end came too early"),
        (&[0x18], 1, "the end came too early"),
        (&[0x18, 23], 0, "an integer or length that is not in its shortest form"),
        (&[0x19, 0, 0xff], 0, "an integer or length that is not in its shortest form"),
        (&[0x1a, 0, 0, 0xff, 0xff], 0, "an integer or length that is not in its shortest form"),
        (&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], 0, "an integer or length that is not in its shortest form"),
        (&[0x58, 1, 0], 0, "an integer or length that is not in its shortest form"),
        (&[0x1c], 0, "a reserved encoding"),
        (&[0x5f, 0xff], 0, "an indefinite length"),
        (&[0x9f, 0xff], 0, "an indefinite length"),
        (&[0xff], 0, "a break outside an indefinite item"),
        (&[0xf9, 0, 0], 0, "a float"),
        (&[0xfa, 0, 0, 0, 0], 0, "a float"),
        (&[0xfb, 0, 0, 0, 0, 0, 0, 0, 0], 0, "a float"),
        (&[0xf7], 0, "a simple value other than false, true and null"),
        (&[0xf8, 0xff], 0, "a simple value other than false, true and null"),
        (&[0xc0, 0], 0, "a tag"),
        (&[0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0], 0, "a negative integer below -2^63"),
        (&[0x42, 0], 0, "a length beyond the end"),
        (&[0x82, 0], 0, "a length beyond the end"),
        (&[0xa1, 0], 0, "a length beyond the end"),
        (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 0, "a length beyond the end"),
        (&[0x61, 0xff], 0, "a text that is not UTF-8"),
        (&[0xa2, 1, 0, 1, 0], 3, "a duplicate map key"),
        (&[0xa2, 2, 0, 1, 0], 3, "map keys out of order"),
        (&[0xa1, 0x80, 0], 1, "a map key that is not an integer, byte string or text"),
        (&[0xa1, 0xf5, 0], 1, "a map key that is not an integer, byte string or text"),
        (&[0, 0], 1, "bytes after the item"),
    ];
    for &(data, at, rule) in cases {
        assert_eq!(whole(data), Err(Malformed { at, rule }), "{data:02x?}");
    }
}

#[test]
fn sixteen_levels_are_the_limit() {
    let nested = |levels: usize, open: u8| [vec![open; levels - 1], vec![open - 1]].concat();
    assert!(whole(&nested(DEPTH_MAX, 0x81)).is_ok());
    assert_eq!(whole(&nested(DEPTH_MAX + 1, 0x81)), Err(Malformed { at: DEPTH_MAX, rule: "nested deeper than 16" }));
    assert!(Reader::new(&nested(13, 0x81)).item(3).is_ok());
    assert!(Reader::new(&nested(14, 0x81)).item(3).is_err());
}
