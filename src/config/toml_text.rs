//! Writes TOML: the values of the file as a file would have them, on one line each. What is written is `dump`'s and
//! `change`'s, strings are `import`'s and `init`'s too; reading is `reader`'s.

use std::fmt::Write as _;

use toml::{Table, Value};

/// A table as the lines `key = value`.
pub(super) fn lines(table: &Table) -> String {
    let mut out = String::new();
    for (key, value) in table {
        line(key, value, &mut out);
    }
    out
}

/// One line `key = value`.
pub(super) fn line(key: &str, value: &Value, out: &mut String) {
    write_key(key, out);
    out.push_str(" = ");
    write_value(value, out);
    out.push('\n');
}

fn write_key(key: &str, out: &mut String) {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !key.is_empty() && key.chars().all(bare) {
        out.push_str(key);
    } else {
        write_text(key, out);
    }
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => write_text(text, out),
        Value::Integer(number) => _ = write!(out, "{number}"),
        Value::Boolean(flag) => _ = write!(out, "{flag}"),
        Value::Datetime(time) => _ = write!(out, "{time}"),
        // Always with a point or an exponent, else it would be read as an integer.
        Value::Float(number) => _ = write!(out, "{number:?}"),
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n == 0 { "" } else { ", " });
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Table(table) => {
            out.push('{');
            for (n, (key, value)) in table.iter().enumerate() {
                out.push_str(if n == 0 { " " } else { ", " });
                write_key(key, out);
                out.push_str(" = ");
                write_value(value, out);
            }
            out.push_str(if table.is_empty() { "}" } else { " }" });
        }
    }
}

/// A basic string (TOML 1.0): quotes, backslashes and controls escaped, all else as it is.
pub(crate) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => _ = write!(out, "\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Value::String),
            any::<i64>().prop_map(Value::Integer),
            any::<bool>().prop_map(Value::Boolean),
            (-1e9..1e9).prop_map(Value::Float),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Table(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(map in prop::collection::btree_map("\\PC{0,8}", values(), 0..4)) {
            let table: Table = map.into_iter().collect();
            let text = lines(&table);
            let read: Table = toml::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
            prop_assert_eq!(read, table);
        }
    }
}
