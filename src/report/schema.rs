//! The JSON Schema of the report, made from the report's own types.
//!
//! It describes what this detgate writes, of one version, and nothing else: no field that is not named, no kind that
//! is not listed. Its `$id` ends in the version ([`SCHEMA`]), which stands in every report too; a validator that
//! gets a report of another version says so. What detgate itself reads is more: versions from
//! [`OLDEST_SCHEMA`](super::OLDEST_SCHEMA) on ([`Report::read`]), and every other is refused in one sentence.
//!
//! Deliberately absent: schemas of older versions (each is in the version of detgate that wrote them), and that of
//! `detgate metrics`.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::{Value, json};

use super::{PartialReport, Report, SCHEMA};

/// The JSON Schema (draft 2020-12) of what `detgate eval`, `merge` and `compare` write, as text that ends in a line
/// break.
pub fn json_schema() -> String {
    format!("{:#}\n", value())
}

fn value() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut generator = settings.into_generator();
    let whole = generator.subschema_for::<Report>();
    let partial = generator.subschema_for::<PartialReport>();
    let mut schema = schemars::json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        // A name, not an address: the schema is part of the program, not of a web site.
        "$id": format!("urn:detgate:schema:report:{SCHEMA}"),
        "title": "detgate report",
        "description": "The JSON report of detgate eval, merge and compare; of an interrupted evaluation, a partial one.",
        "type": "object",
        "if": {"required": ["partial"]},
        "then": partial,
        "else": whole,
        "$defs": generator.take_definitions(true),
    });
    RecursiveTransform(strict).transform(&mut schema);
    schema.to_value()
}

/// Nothing but what is named, and words for those who do not read Rust.
fn strict(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    // The width of a number in memory.
    object.remove("format");
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = plain(text);
    }
    let is_record =
        object.get("type") == Some(&json!("object")) && object.contains_key("properties");
    if is_record && !object.contains_key("additionalProperties") {
        object.insert("additionalProperties".to_owned(), false.into());
    }
}

/// A Rust comment in one line, JSON's word for what is not there, and of links the last name.
fn plain(comment: &str) -> String {
    let text = comment.replace('\n', " ").replace("`None`", "null");
    let mut pieces = text.split("[`");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| match piece.split_once("`]") {
        Some((path, rest)) => {
            let name = path.rsplit("::").next().unwrap_or(path);
            format!("{text}`{name}`{rest}")
        }
        None => format!("{text}[`{piece}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_becomes_a_description() {
        assert_eq!(
            plain("The images of [`Why::worst`], then\nof [`Other`]; `None` where [0, 1] is `x`."),
            "The images of `worst`, then of `Other`; null where [0, 1] is `x`."
        );
        assert_eq!(plain("plain"), "plain");
    }
}
