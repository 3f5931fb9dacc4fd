//! From the objects of a pickle to a detector's checkpoint: the notebook's dict, or a bare state
//! dict.

use std::collections::BTreeMap;

use super::ClassMap;
use super::error::{ContentsError, printable};
use super::tensor::StateDict;
use super::value::{Heap, Id, Value};

const STATE_DICT: &str = "model_state_dict";
const TARGET_CLASSES: &str = "target_classes";
const COCO_TO_INTERNAL: &str = "coco_to_internal";
const INTERNAL_TO_NAME: &str = "internal_to_name";

/// What `torch.nn.DataParallel` puts before every name.
const DATA_PARALLEL: &str = "module.";

/// How many keys an error lists.
const KEYS_LISTED: usize = 20;

/// Longer than any parameter's path.
const MAX_NAME_LENGTH: usize = 1024;

type Entries<'h> = &'h [(Id, Id)];

/// Reads the state dict and, unless it is a bare one, the class maps.
///
/// # Errors
/// When `root` is neither form, or its class maps are incomplete or of other types.
pub(super) fn interpret(
    heap: &Heap<'_>,
    root: Id,
) -> Result<(StateDict, Option<ClassMap>), ContentsError> {
    let entries = heap
        .dict(root)
        .ok_or_else(|| ContentsError::NotADict(heap[root].kind()))?;
    if let Some(id) = heap.get(entries, STATE_DICT) {
        let tensors = heap.dict(id).ok_or_else(|| ContentsError::ClassMap {
            key: STATE_DICT,
            expected: format!("a dict of names to tensors, not a {}", heap[id].kind()),
        })?;
        return Ok((state_dict(heap, tensors)?, class_map(heap, entries)?));
    }
    let is_tensor = |&(_, value): &(Id, Id)| matches!(heap[value], Value::Tensor(_));
    if entries.is_empty() || !entries.iter().all(is_tensor) {
        return Err(ContentsError::NoStateDict {
            keys: list_keys(heap, entries),
        });
    }
    Ok((state_dict(heap, entries)?, None))
}

fn state_dict(heap: &Heap<'_>, entries: Entries<'_>) -> Result<StateDict, ContentsError> {
    let prefix = data_parallel_prefix(heap, entries);
    let mut tensors = StateDict::new();
    for &(key, value) in entries {
        let name = heap
            .str(key)
            .ok_or_else(|| ContentsError::NotAName(heap[key].kind()))?;
        if name.len() > MAX_NAME_LENGTH {
            return Err(ContentsError::LongName(name.len()));
        }
        let Value::Tensor(tensor) = &heap[value] else {
            let (name, kind) = (printable(name), heap[value].kind());
            return Err(ContentsError::NotATensor { name, kind });
        };
        tensors.insert(name[prefix.len()..].to_owned(), (**tensor).clone());
    }
    Ok(tensors)
}

/// [`DATA_PARALLEL`] when every name carries it, else nothing.
fn data_parallel_prefix(heap: &Heap<'_>, entries: Entries<'_>) -> &'static str {
    let carries =
        |&(key, _): &(Id, Id)| heap.str(key).is_some_and(|k| k.starts_with(DATA_PARALLEL));
    if entries.iter().all(carries) {
        DATA_PARALLEL
    } else {
        ""
    }
}

/// All three maps, or `None` where the dict has none of them.
fn class_map(heap: &Heap<'_>, entries: Entries<'_>) -> Result<Option<ClassMap>, ContentsError> {
    let keys = [TARGET_CLASSES, COCO_TO_INTERNAL, INTERNAL_TO_NAME];
    let found = keys.map(|key| heap.get(entries, key));
    let [Some(classes), Some(internal), Some(names)] = found else {
        let missing = keys
            .into_iter()
            .zip(found)
            .find(|(_, found)| found.is_none());
        return match missing {
            Some((missing, _)) if found.iter().any(Option::is_some) => {
                Err(ContentsError::MissingKey {
                    missing,
                    keys: list_keys(heap, entries),
                })
            }
            _ => Ok(None),
        };
    };
    Ok(Some(ClassMap {
        target_classes: target_classes(heap, classes)?,
        coco_to_internal: map(heap, COCO_TO_INTERNAL, internal, "int", integer)?,
        internal_to_name: map(heap, INTERNAL_TO_NAME, names, "str", text)?,
    }))
}

fn target_classes(heap: &Heap<'_>, id: Id) -> Result<Vec<String>, ContentsError> {
    heap.sequence(id)
        .and_then(|items| items.iter().map(|&item| text(heap, item)).collect())
        .ok_or_else(|| ContentsError::ClassMap {
            key: TARGET_CLASSES,
            expected: format!("a list of str, not {}", describe(heap, id)),
        })
}

/// A dict whose keys are ints, or strs that spell ints (as JSON makes them).
fn map<T: PartialEq>(
    heap: &Heap<'_>,
    key: &'static str,
    id: Id,
    kind: &str,
    read: fn(&Heap<'_>, Id) -> Option<T>,
) -> Result<BTreeMap<i64, T>, ContentsError> {
    let wrong = |what: String| {
        let expected = format!("a dict from int (or str of digits) to {kind}, not {what}");
        ContentsError::ClassMap { key, expected }
    };
    let entries = heap.dict(id).ok_or_else(|| wrong(describe(heap, id)))?;
    let mut map = BTreeMap::new();
    for &(k, v) in entries {
        let (Some(number), Some(value)) = (integer_key(heap, k), read(heap, v)) else {
            return Err(wrong(format!(
                "{} to {}",
                describe(heap, k),
                describe(heap, v)
            )));
        };
        if map.get(&number).is_some_and(|earlier| *earlier != value) {
            return Err(wrong(format!("one that gives {number} twice, differently")));
        }
        map.insert(number, value);
    }
    Ok(map)
}

fn integer_key(heap: &Heap<'_>, id: Id) -> Option<i64> {
    integer(heap, id).or_else(|| heap.str(id)?.trim().parse().ok())
}

fn integer(heap: &Heap<'_>, id: Id) -> Option<i64> {
    match heap[id] {
        Value::Int(number) => Some(number),
        _ => None,
    }
}

fn text(heap: &Heap<'_>, id: Id) -> Option<String> {
    heap.str(id).map(str::to_owned)
}

/// A value, briefly, for a message.
fn describe(heap: &Heap<'_>, id: Id) -> String {
    match &heap[id] {
        Value::Str(text) => format!("\"{}\"", printable(text)),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(flag) => if *flag { "True" } else { "False" }.to_owned(),
        Value::List(items) | Value::Tuple(items) => {
            let odd = items.iter().find(|&&item| heap.str(item).is_none());
            let kind = heap[id].kind();
            odd.map_or(format!("a {kind}"), |&odd| {
                format!("a {kind} with a {}", heap[odd].kind())
            })
        }
        other => format!("a {}", other.kind()),
    }
}

/// The dict's keys, for a message.
fn list_keys(heap: &Heap<'_>, entries: Entries<'_>) -> String {
    if entries.is_empty() {
        return "none".to_owned();
    }
    let listed: Vec<_> = entries
        .iter()
        .take(KEYS_LISTED)
        .map(|&(key, _)| describe(heap, key))
        .collect();
    let more = if entries.len() > KEYS_LISTED {
        ", ..."
    } else {
        ""
    };
    format!("{}{more}", listed.join(", "))
}
