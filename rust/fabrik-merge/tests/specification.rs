//! The register table in code is the table of the specification.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

use fabrik_merge::schema::{FieldType, KINDS};

const SPECIFICATION: &str = include_str!("../../../docs/spec/merge.md");

#[test]
fn the_table_of_merge_md_is_the_schema() {
    let rows: Vec<Vec<&str>> = SPECIFICATION
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_digit))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), KINDS.len());
    for ((row, kind), number) in rows.iter().zip(KINDS).zip(1..) {
        assert_eq!((row[0], row[1]), (number.to_string().as_str(), kind.name));
        assert!(row[2].starts_with(&format!("{} B", kind.id_bytes)), "{}", row[2]);
        let fields: Vec<&str> = row[3].split(';').map(str::trim).collect();
        assert_eq!(fields.len(), kind.fields.len(), "{}", row[3]);
        for ((text, field), number) in fields.iter().zip(kind.fields).zip(1..) {
            let fence = if field.fenced { " F" } else { "" };
            let note = if field.value == FieldType::Summary { " with at least `\"node\"` => the author's key (32 B)" } else { "" };
            assert_eq!(*text, format!("{number} {} `{}`{note}{fence}", field.name, field.value.name()));
        }
    }
}
