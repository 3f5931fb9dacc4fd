//! What lies beside the weights is read past, but to read past it, it must be read right: an
//! instruction misunderstood here would shift everything after it.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::archive::Archive;
use super::error::PickleError;
use super::pickle::{self, Failure};
use super::rebuild::{Calls, Global};
use super::value::{Heap, Id, Value};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/checkpoint")
        .join(name)
}

/// An object in the form of `plain` in `fixtures/checkpoint/generate.py`.
fn plain(heap: &Heap<'_>, id: Id) -> Json {
    let all = |items: &[Id]| {
        items
            .iter()
            .map(|&item| plain(heap, item))
            .collect::<Vec<_>>()
    };
    match &heap[id] {
        Value::None => Json::Null,
        Value::Bool(flag) => json!(flag),
        Value::Int(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Str(text) => json!(text),
        Value::Bytes(bytes) => json!({ "bytes": **bytes }),
        Value::Tuple(items) => json!({ "tuple": all(items) }),
        Value::List(items) => json!({ "list": all(items) }),
        Value::Set(items) => json!({ "set": all(items) }),
        Value::Dict(entries) => {
            let entries: Vec<_> = entries.iter().map(|&(k, v)| all(&[k, v])).collect();
            json!({ "dict": entries })
        }
        Value::Tensor(tensor) => {
            let bits: Vec<_> = tensor.to_f32().iter().map(|v| v.to_bits() as i32).collect();
            json!({ "tensor": bits })
        }
        Value::Storage(storage) => json!({ "storage": storage.1.bytes().len() }),
        other => json!({ "opaque": other.kind() }),
    }
}

#[test]
fn every_object_that_a_training_loop_saves_is_read_as_python_reads_it() {
    let archive = Archive::open(&fixture("training.pt")).unwrap();
    let bytes = archive.record("data.pkl").unwrap();
    let (heap, root) = pickle::load(bytes, Calls::new(&archive, bytes.len())).unwrap();
    let expected = std::fs::read_to_string(fixture("training_objects.json")).unwrap();
    let expected: Json = serde_json::from_str(&expected).unwrap();
    let found = plain(&heap, root);
    let entries = |json: &Json| json["dict"].as_array().unwrap().clone();
    for (found, expected) in entries(&found).into_iter().zip(entries(&expected)) {
        assert_eq!(found, expected);
    }
    assert_eq!(entries(&found).len(), entries(&expected).len());
}

/// Runs a hand-written pickle; no storages.
fn run(bytes: &[u8]) -> Result<Json, Failure> {
    let archive = Archive::open(&fixture("list.pt")).unwrap();
    pickle::load(bytes, Calls::new(&archive, bytes.len())).map(|(heap, id)| plain(&heap, id))
}

fn reason(bytes: &[u8]) -> PickleError {
    run(bytes).expect_err("is refused").reason
}

#[test]
fn numbers_of_every_instruction_have_their_value() {
    for (bytes, expected) in [
        (&b"J\xff\xff\xff\xff."[..], json!(-1)),
        (b"K\xff.", json!(255)),
        (b"M\x00\x01.", json!(256)),
        (b"\x8a\x00.", json!(0)),
        (b"\x8a\x02\x00\xff.", json!(-256)),
        (
            b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.",
            json!(i64::MIN),
        ),
        (b"\x8b\x01\x00\x00\x00\x05.", json!(5)),
        (b"I01\n.", json!(true)),
        (b"L-12L\n.", json!(-12)),
        (b"G\x3f\xf8\x00\x00\x00\x00\x00\x00.", json!(1.5)),
    ] {
        assert_eq!(run(bytes).unwrap(), expected, "{bytes:?}");
    }
}

#[test]
fn lengths_that_exceed_the_file_are_refused_before_anything_is_allocated() {
    for bytes in [
        &b"X\xff\xff\xff\xffabc"[..],
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"B\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\xff",
        b"cos",
        b"",
    ] {
        assert_eq!(reason(bytes), PickleError::UnexpectedEnd, "{bytes:?}");
    }
}

#[test]
fn instructions_without_operands_are_refused() {
    for bytes in [
        &b"."[..],
        b"t.",
        b"\x86.",
        b"(N\x85\x86.",
        b"a",
        b"s",
        b"Q",
        b"R",
        b"b",
        b"q\0",
        b"h\0",
    ] {
        assert!(
            matches!(reason(bytes), PickleError::Malformed(_)),
            "{bytes:?}"
        );
    }
    // Operands below a mark are out of reach.
    assert!(matches!(reason(b"N(\x85."), PickleError::Malformed(_)));
}

#[test]
fn nesting_of_any_depth_neither_recurses_nor_overflows_the_stack() {
    let mut bytes = b")".to_vec();
    bytes.extend(std::iter::repeat_n(0x85, 1_000_000));
    bytes.push(b'.');
    let archive = Archive::open(&fixture("list.pt")).unwrap();
    assert!(pickle::load(&bytes, Calls::new(&archive, bytes.len())).is_ok());
}

#[test]
fn small_pickles_cannot_ask_for_much_memory() {
    // Five million times None.
    let many = vec![b'N'; 5_000_000];
    assert!(matches!(reason(&many), PickleError::TooManyObjects { .. }));

    // A long list, memoized, of which sets are made again and again.
    let mut sets = b"c__builtin__\nset\nq\0](".to_vec();
    sets.extend(std::iter::repeat_n(b'N', 10_000));
    sets.extend(b"e\x85q\x01");
    sets.extend(b"h\0h\x01R".repeat(1000));
    assert_eq!(reason(&sets), PickleError::Expansion);
}

#[test]
fn names_outside_the_list_are_refused_in_every_spelling() {
    for (bytes, name) in [
        (&b"cposix\nsystem\n."[..], "posix.system"),
        (b"\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"c__builtin__\neval\n.", "__builtin__.eval"),
        (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
        (b"ctorch\nload\n.", "torch.load"),
        (
            b"ctorch._utils\n_rebuild_sparse_tensor\n.",
            "torch._utils._rebuild_sparse_tensor",
        ),
        (
            b"ctorch\nUntypedStorage.from_file\n.",
            "torch.UntypedStorage.from_file",
        ),
    ] {
        assert_eq!(reason(bytes), PickleError::Global(name.to_owned()));
    }
    // The instructions that name and call at once, and the registry of extensions.
    for opcode in [b'i', b'o', b'P', 0x82, 0x83, 0x84, 0x97] {
        assert_eq!(
            reason(&[b'(', opcode, b'o', b's', b'\n']),
            PickleError::Opcode(opcode)
        );
    }
}

#[test]
fn a_name_from_a_file_cannot_command_the_terminal() {
    let Err(PickleError::Global(name)) = Global::find("evil\x1b[2J", "x\u{202e}") else {
        panic!("was found")
    };
    assert!(!name.contains(|c: char| c.is_control()), "{name}");
}

#[test]
fn allowed_names_with_other_arguments_are_refused() {
    for bytes in [
        &b"c_codecs\nencode\nX\x01\0\0\0aX\x04\0\0\0utf8\x86R."[..],
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"ctorch\nFloatStorage\n)R.",
        b"c__builtin__\nset\nK\x01\x85R.",
        b"NQ.",
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ\xff\xff\xff\xfftQ.",
    ] {
        assert!(matches!(reason(bytes), PickleError::Arguments(_)), "{bytes:?}");
    }
    assert!(matches!(reason(b"N)R."), PickleError::Malformed(_)));
    assert!(matches!(reason(b"N}b."), PickleError::Malformed(_)));
}

#[test]
fn storages_that_the_archive_lacks_or_holds_too_short_are_refused() {
    let storage = |elements: u8| {
        let mut bytes =
            b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK".to_vec();
        bytes.extend([elements, b't', b'Q', b'.']);
        bytes
    };
    assert_eq!(
        reason(&storage(4)),
        PickleError::MissingRecord("0".to_owned())
    );
    let archive = Archive::open(&fixture("shared.pt")).unwrap();
    let bytes = storage(9);
    let failure = pickle::load(&bytes, Calls::new(&archive, bytes.len()))
        .err()
        .unwrap();
    let short = PickleError::ShortRecord {
        key: "0".to_owned(),
        expected: 36,
        found: 32,
    };
    assert_eq!(failure.reason, short);
}
