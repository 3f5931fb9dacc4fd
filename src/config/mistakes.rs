//! `detgate.toml` from text, with one sentence for the first mistake: where it is and what was meant.
//!
//! A file is walked beside its own JSON Schema (`schema.rs`), which knows every key, type, choice and
//! range, and the parsed document, which knows where each of them stands. What a schema cannot say is
//! asked of the settings afterwards. Deliberately absent: a validator for any other schema; of JSON
//! Schema only what describes these settings is read, and a test says so.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::place::Places;
use super::settings::Settings;
use crate::nearest::nearest;

/// Longer values are cut in messages.
const SHOWN: usize = 40;

/// What is wrong with the value of a key, before it is known where that stands.
#[derive(Debug)]
pub(super) struct Mistake {
    keys: Vec<String>,
    what: String,
}

impl Mistake {
    /// `what` continues the sentence that the key begins: `is 2; it must be 1`.
    pub(super) fn new(keys: &[&str], what: String) -> Self {
        Self { keys: keys.iter().map(|&key| key.to_owned()).collect(), what }
    }

    /// The same mistake, seen from a table that holds the table at `keys`.
    pub(super) fn below(mut self, keys: &[&str]) -> Self {
        self.keys.splice(..0, keys.iter().map(|&key| key.to_owned()));
        self
    }
}

/// A sentence and where in the file it is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Located {
    line: usize,
    column: usize,
    what: String,
}

impl Located {
    /// `offset` in bytes.
    fn new(text: &str, offset: usize, what: String) -> Self {
        let (line, column) = position(text, offset);
        Self { line, column, what }
    }

    pub(super) fn in_file(self, path: PathBuf) -> ConfigError {
        let Self { line, column, what } = self;
        ConfigError::Toml { path, line, column, what }
    }
}

/// Line and column of a byte, from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The settings, or the first mistake of the file.
pub(super) fn parse(bytes: &[u8]) -> Result<Settings, Located> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        Located::new(&valid, valid.len(), "this is not UTF-8; save the file as UTF-8".to_owned())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = DeTable::parse(text).map_err(|error| unreadable(text, &error))?;
    let schema = super::schema::value();
    let mut walk = Walk { schema: &schema, found: Vec::new() };
    walk.table(&schema, document.get_ref(), &mut Vec::new());
    if let Some((offset, what)) = walk.found.into_iter().min_by_key(|(offset, _)| *offset) {
        return Err(Located::new(text, offset, what));
    }
    let mut settings = Settings::deserialize(toml::de::Deserializer::from(document.clone()))
        .map_err(|error| unreadable(text, &error))?;
    settings.gate.check().map_err(|mistake| locate(text, document.get_ref(), &mistake))?;
    settings.gate.places = places(text, document.get_ref());
    Ok(settings)
}

/// Of what can be found wrong when the data are known.
fn places(text: &str, document: &DeTable) -> Places {
    let mut places = Places::default();
    let gate = document.get("gate").and_then(|gate| gate.get_ref().as_table());
    for name in ["metrics", "slices"] {
        let table = gate.and_then(|gate| gate.get(name)?.get_ref().as_table());
        for (key, _) in table.into_iter().flatten() {
            places.record(name, key.get_ref(), position(text, key.span().start));
        }
    }
    places
}

/// What the TOML parser says, on one line.
fn unreadable(text: &str, error: &toml::de::Error) -> Located {
    let what = error.message().lines().map(str::trim).collect::<Vec<_>>().join("; ");
    Located::new(text, error.span().map_or(0, |span| span.start), what)
}

/// Where the deepest of the mistake's keys stands that the file has.
fn locate(text: &str, document: &DeTable, mistake: &Mistake) -> Located {
    let mut table = Some(document);
    let mut offset = 0;
    for key in &mistake.keys {
        let Some((name, value)) = table.and_then(|table| table.get_key_value(key.as_str())) else {
            break;
        };
        table = value.get_ref().as_table();
        offset = if table.is_some() { name.span().start } else { value.span().start };
    }
    Located::new(text, offset, format!("{} {}", named(&mistake.keys), mistake.what))
}

/// `score_thr in [practical]`, or `[gate.slices.night]` for what is a table by itself.
fn named(keys: &[String]) -> String {
    let is_table = |keys: &[String]| match keys {
        [_] => true,
        [gate, named] => {
            gate == "gate" && ["metrics", "slices", "groups"].contains(&named.as_str())
        }
        [gate, metrics, _] => gate == "gate" && ["metrics", "slices"].contains(&metrics.as_str()),
        _ => false,
    };
    match keys.split_last() {
        Some((key, table)) if !is_table(keys) => format!("{} in {}", quoted(key), header(table)),
        _ => header(keys),
    }
}

/// `[gate.metrics."AP50/*"]`.
fn header<S: AsRef<str>>(keys: &[S]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| quoted(key.as_ref())).collect();
    format!("[{}]", keys.join("."))
}

/// A key as TOML wants it, on one line.
fn quoted(key: &str) -> String {
    let is_bare = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_bare { key.to_owned() } else { format!("{key:?}") }
}

/// A document beside the schema that it has to satisfy.
struct Walk<'s> {
    schema: &'s Value,
    /// Offset and sentence of each mistake.
    found: Vec<(usize, String)>,
}

impl<'s> Walk<'s> {
    fn table<'d>(&mut self, schema: &'s Value, table: &'d DeTable, keys: &mut Vec<&'d str>) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            match of_key(schema, name) {
                Some(schema) => {
                    keys.push(name);
                    self.value(schema, value, keys);
                    keys.pop();
                }
                None => self.found.push((key.span().start, self.unknown(schema, name, keys))),
            }
        }
    }

    fn value<'d>(
        &mut self,
        schema: &'s Value,
        value: &'d Spanned<DeValue>,
        keys: &mut Vec<&'d str>,
    ) {
        match value.get_ref() {
            DeValue::Table(table) if schema["type"] == "object" => self.table(schema, table, keys),
            other if fits(schema, other) => {}
            other => {
                let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
                let what =
                    format!("{} is {}; {}", named(&keys), shown(other), wanted(schema, other));
                self.found.push((value.span().start, what));
            }
        }
    }

    fn unknown(&self, schema: &Value, key: &str, keys: &[&str]) -> String {
        let valid: Vec<&str> = keys_of(schema).collect();
        let mut tables = self.schema["properties"].as_object().into_iter().flatten();
        let remedy = if let Some(meant) = nearest(key, valid.iter().copied()) {
            format!("did you mean `{}`?", quoted(meant))
        } else if let Some((table, _)) = tables.find(|(_, table)| keys_of(table).any(|k| k == key))
        {
            format!("it belongs to [{table}]")
        } else {
            format!("the keys are {}", valid.join(", "))
        };
        let place = match keys {
            [] => "at the top level".to_owned(),
            keys => format!("in {}", header(keys)),
        };
        format!("unknown key `{}` {place}; {remedy}", quoted(key))
    }
}

fn keys_of(schema: &Value) -> impl Iterator<Item = &str> {
    schema["properties"].as_object().into_iter().flat_map(|keys| keys.keys().map(String::as_str))
}

/// What describes the value of `key` in a table.
fn of_key<'s>(schema: &'s Value, key: &str) -> Option<&'s Value> {
    let named = schema["properties"].get(key);
    named.or_else(|| Some(&schema["additionalProperties"]).filter(|any| any.is_object()))
}

/// The words that a key may say, if only some.
fn choices(schema: &Value) -> Option<Vec<&str>> {
    let said = |one: &'_ Value| one.as_str().is_some();
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().all(said).then(|| words.iter().filter_map(Value::as_str).collect());
    }
    let alternatives = schema["oneOf"].as_array()?;
    alternatives.iter().map(|alternative| alternative["const"].as_str()).collect()
}

fn fits(schema: &Value, value: &DeValue) -> bool {
    if let Some(choices) = choices(schema) {
        return value.as_str().is_some_and(|word| choices.contains(&word));
    }
    match schema["type"].as_str() {
        Some("boolean") => value.is_bool(),
        Some("string") => value.is_str(),
        Some("integer") => value.is_integer() && in_range(schema, value),
        Some("number") => in_range(schema, value),
        _ => false,
    }
}

/// Whether it is a finite number within the schema's limits.
fn in_range(schema: &Value, value: &DeValue) -> bool {
    let limit = |name: &str| schema[name].as_f64();
    number(value).is_some_and(|number| {
        number.is_finite()
            && limit("minimum").is_none_or(|least| number >= least)
            && limit("maximum").is_none_or(|most| number <= most)
            && limit("exclusiveMaximum").is_none_or(|most| number < most)
            && limit("const").is_none_or(|only| number == only)
            && alternatives(schema).is_none_or(|any| any.iter().any(|one| in_range(one, value)))
    })
}

/// Ranges of which a number has to be in one.
fn alternatives(schema: &Value) -> Option<&Vec<Value>> {
    schema["anyOf"].as_array()
}

fn number(value: &DeValue) -> Option<f64> {
    match value {
        DeValue::Float(float) => float.as_str().parse().ok(),
        // Only to compare with limits; TOML's integers have 64 bits, and more is beyond all limits.
        DeValue::Integer(integer) => {
            let beyond =
                if integer.as_str().starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
            let whole = i64::from_str_radix(integer.as_str(), integer.radix());
            Some(whole.map_or(beyond, |whole| whole as f64))
        }
        _ => None,
    }
}

/// A value as a message shows it: short, on one line.
fn shown(value: &DeValue) -> String {
    match value {
        DeValue::String(text) if text.chars().count() > SHOWN => {
            format!("{:?}...", text.chars().take(SHOWN).collect::<String>())
        }
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// What the value should have been.
fn wanted(schema: &Value, value: &DeValue) -> String {
    if let Some(choices) = choices(schema) {
        let meant = value.as_str().and_then(|word| nearest(word, choices.iter().copied()));
        let quoted: Vec<String> = choices.iter().map(|word| format!("{word:?}")).collect();
        return match meant {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("it must be {}", quoted.join(" or ")),
        };
    }
    let kind = match schema["type"].as_str() {
        Some("boolean") => "true or false",
        Some("string") => "text in quotes",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        _ => match keys_of(schema).collect::<Vec<_>>() {
            keys if keys.is_empty() => "a table",
            keys => return format!("it must be a table of {}", keys.join(", ")),
        },
    };
    let limits = limits(schema, value);
    let of_this_kind =
        number(value).is_some() && (schema["type"] != "integer" || value.is_integer());
    match limits {
        Some(limits) if of_this_kind => format!("it must be {limits}"),
        Some(limits) => format!("it must be {kind}, {limits}"),
        None => format!("it must be {kind}"),
    }
}

fn limits(schema: &Value, value: &DeValue) -> Option<String> {
    let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
    if let Some(only) = limit("const") {
        return Some(only.to_string());
    }
    if let Some(any) = alternatives(schema) {
        let ranges: Option<Vec<String>> = any.iter().map(|one| limits(one, value)).collect();
        return ranges.map(|ranges| ranges.join(", or "));
    }
    match (limit("minimum"), limit("maximum"), limit("exclusiveMaximum")) {
        (Some(least), Some(most), _) => Some(format!("between {least} and {most}")),
        (Some(least), _, Some(most)) => Some(format!("at least {least} and less than {most}")),
        _ if number(value) == Some(f64::INFINITY) => Some(format!("at most {}", i64::MAX)),
        (Some(least), ..) => Some(format!("at least {least}")),
        _ => None,
    }
}
