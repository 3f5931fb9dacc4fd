//! The JSON Schema of `detgate.toml`, made from the settings themselves.
//!
//! It is what editors read and what `mistakes.rs` checks a file against, so the two cannot differ.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::{Map, Value};

use super::settings::Settings;

/// A name, not an address: the schema is part of the program, not of a web site.
const ID: &str = "urn:detgate:schema:detgate.toml";

/// The JSON Schema (draft 2020-12) of `detgate.toml`, as text that ends in a line break.
pub fn json_schema() -> String {
    format!("{:#}\n", value())
}

/// The same as a value.
pub(super) fn value() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Settings>();
    schema.insert("$id".to_owned(), ID.into());
    schema.insert("title".to_owned(), "detgate.toml".into());
    RecursiveTransform(for_toml).transform(&mut schema);
    schema.to_value()
}

/// Without what Rust's types say that is of no use in TOML: line breaks of comments, null, the width of numbers, whole tables as
/// defaults of tables whose keys have their own.
fn for_toml(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("format");
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    if let Some(alternatives) = object.get("anyOf").and_then(Value::as_array)
        && let [whole, null] = alternatives.as_slice()
        && null["type"] == "null"
        && let Some(whole) = whole.as_object().cloned()
    {
        object.remove("anyOf");
        let outer = std::mem::take(object);
        object.extend(whole.into_iter().chain(outer));
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".to_owned(), one);
        }
    }
    let of_no_use =
        |default: &Value| default.is_null() || default.as_object().is_some_and(Map::is_empty);
    let is_table = object.contains_key("properties");
    if object.get("default").is_some_and(|default| is_table || of_no_use(default)) {
        object.remove("default");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every keyword that stands in a schema, below `keyword` itself.
    fn keywords(schema: &Value, found: &mut std::collections::BTreeSet<String>) {
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            found.insert(keyword.clone());
            match keyword.as_str() {
                "properties" => {
                    value.as_object().unwrap().values().for_each(|key| keywords(key, found));
                }
                "additionalProperties" => keywords(value, found),
                _ => {}
            }
        }
    }

    #[test]
    fn only_keywords_that_are_checked_are_in_the_schema() {
        let mut found = std::collections::BTreeSet::new();
        keywords(&value(), &mut found);
        let notes = ["$id", "$schema", "default", "description", "title"];
        let walked = [
            "additionalProperties",
            "exclusiveMaximum",
            "maximum",
            "minimum",
            "oneOf",
            "properties",
            "type",
        ];
        // Said again, with the remedy, by `Gate::check`.
        let asked =
            ["anyOf", "dependentRequired", "dependentSchemas", "minProperties", "propertyNames"];
        let known: Vec<&str> = [&notes[..], &walked, &asked].concat();
        found.retain(|keyword| !known.contains(&keyword.as_str()));
        assert_eq!(found, [].into());
    }
}
