//! The configuration that is written: TOML by hand, so that it has the order and the look of the example. Values are written
//! by rules of TOML that hold for all strings, whatever stands in them.

use std::path::Path;

use super::{Found, Origin};
use crate::config::toml_text::write_text;

/// A value of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
    List(Vec<Self>),
    /// An inline table.
    Table(Keys),
}

/// Keys and values in the order in which they are written.
pub(super) type Keys = Vec<(&'static str, Value)>;

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

/// Adds a key when there is a value for it.
pub(super) fn put(keys: &mut Keys, key: &'static str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        keys.push((key, value.into()));
    }
}

impl Value {
    fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => write_text(text, out),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::Flag(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Self::List(list) => {
                out.push('[');
                for (n, value) in list.iter().enumerate() {
                    out.push_str(if n > 0 { ", " } else { "" });
                    value.write(out);
                }
                out.push(']');
            }
            Self::Table(keys) => {
                out.push_str("{ ");
                for (n, (key, value)) in keys.iter().enumerate() {
                    out.push_str(if n > 0 { ", " } else { "" });
                    out.push_str(key);
                    out.push_str(" = ");
                    value.write(out);
                }
                out.push_str(" }");
            }
        }
    }
}

fn write_table(header: &str, keys: &Keys, out: &mut String) {
    out.push('\n');
    out.push_str(header);
    out.push('\n');
    for (key, value) in keys {
        out.push_str(key);
        out.push_str(" = ");
        value.write(out);
        out.push('\n');
    }
}

pub(super) fn write(found: &Found, origin: Origin, path: &Path) -> String {
    let mut out = format!(
        "# Made by `carom import` from the configuration of {} in\n# {}\n# Every key is explained in carom.toml(5); `carom check` judges what stands here.\n",
        origin.name(),
        path.display().to_string().escape_debug(),
    );
    for (name, keys) in found.sections.iter().filter(|(_, keys)| !keys.is_empty()) {
        write_table(&format!("[{name}]"), keys, &mut out);
    }
    for user in &found.users {
        write_table("[[user]]", &user.keys, &mut out);
        for network in &user.networks {
            write_table("[[user.network]]", &network.keys, &mut out);
            for channel in &network.channels {
                write_table("[[user.network.channel]]", channel, &mut out);
            }
        }
    }
    out
}
