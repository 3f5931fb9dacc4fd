//! Reading `.pt` files that real `torch.save` wrote (`fixtures/checkpoint/generate.py`).

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use detgate::checkpoint::{Checkpoint, CheckpointError, Dtype, Tensor, load, load_copied, newest};
use proptest::prelude::*;

/// A file by its name, `.pt` where it has no ending.
fn fixture(name: &str) -> PathBuf {
    let name = if name.contains('.') { name.to_owned() } else { format!("{name}.pt") };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoint").join(name)
}

fn read(name: &str) -> Checkpoint {
    load(&fixture(name)).unwrap()
}

fn values(checkpoint: &Checkpoint, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = &checkpoint.state_dict[name];
    (tensor.shape().to_vec(), tensor.to_f32())
}

/// The error, without the folder's name.
fn refusal(name: &str) -> String {
    let path = fixture(name);
    load(&path)
        .unwrap_err()
        .to_string()
        .replace(&format!("{}/", path.parent().unwrap().display()), "")
}

#[test]
fn every_element_type_becomes_float32() {
    for name in ["dtypes", "dtypes.safetensors"] {
        every_element_type_of(name);
    }
}

fn every_element_type_of(file: &str) {
    let checkpoint = read(file);
    let types = [
        ("float16", Dtype::F16),
        ("bfloat16", Dtype::BF16),
        ("float32", Dtype::F32),
        ("float64", Dtype::F64),
        ("int64", Dtype::I64),
        ("int32", Dtype::I32),
        ("int16", Dtype::I16),
        ("int8", Dtype::I8),
        ("uint8", Dtype::U8),
    ];
    for (name, dtype) in types {
        assert_eq!(checkpoint.state_dict[name].dtype(), dtype);
        assert_eq!(values(&checkpoint, name), (vec![2, 3], vec![0., 1., 2., 3., 4., 5.]), "{name}");
    }
    assert_eq!(values(&checkpoint, "bool"), (vec![2, 2], vec![0., 1., 1., 0.]));
    assert_eq!(checkpoint.classes, None);
}

#[test]
fn views_keep_their_strides_and_share_their_storage() {
    let checkpoint = read("views");
    assert_eq!(values(&checkpoint, "column"), (vec![4], vec![2., 8., 14., 20.]));
    assert_eq!(values(&checkpoint, "corner"), (vec![2, 3], vec![7., 9., 11., 13., 15., 17.]));
    assert_eq!(values(&checkpoint, "expanded"), (vec![2, 3], vec![0., 1., 2., 0., 1., 2.]));
    assert_eq!(values(&checkpoint, "scalar"), (vec![], vec![7.5]));
    assert_eq!(values(&checkpoint, "empty"), (vec![0, 3], vec![]));
    assert_eq!(values(&checkpoint, "parameter"), (vec![3], vec![0., 1., 2.]));
    assert_eq!(values(&checkpoint, "attributes"), (vec![2], vec![0., 1.]));
    let ramp: Vec<f32> = (0..8_u8).map(f32::from).collect();
    assert_eq!(values(&checkpoint, "channels_last"), (vec![1, 2, 2, 2], ramp));
    let (shape, transposed) = values(&checkpoint, "transposed");
    assert_eq!(shape, [6, 4]);
    assert_eq!(transposed[..5], [0., 6., 12., 18., 1.]);

    let bytes = |name: &str| checkpoint.state_dict[name].as_contiguous_bytes();
    let base = bytes("base").unwrap();
    assert_eq!(base.len(), 4 * 6 * 4);
    assert_eq!(base[4..8], 1.0_f32.to_le_bytes());
    assert!(bytes("transposed").is_none() && bytes("column").is_none());
}

#[test]
fn training_leftovers_are_read_past_whatever_the_pickle_protocol() {
    for name in ["busy", "protocol_3", "protocol_4", "protocol_5"] {
        let checkpoint = read(name);
        assert_eq!(values(&checkpoint, "weight"), (vec![2, 2], vec![0., 1., 2., 3.]), "{name}");
        assert_eq!(values(&checkpoint, "bias"), (vec![2], vec![0., 1.]), "{name}");
        assert_eq!(checkpoint.state_dict.len(), 2, "{name}");
        let classes = checkpoint.classes.unwrap();
        assert_eq!(classes.target_classes, ["person", "car", "airplane"]);
        assert_eq!(classes.coco_to_internal, [(1, 1), (3, 2), (5, 3)].into());
        assert_eq!(classes.internal_to_name[&3], "airplane");
    }
}

#[test]
fn keys_may_be_text_and_a_data_parallel_prefix_is_taken_off() {
    assert_eq!(read("text_keys").classes, read("busy").classes);
    for name in ["data_parallel", "data_parallel.safetensors"] {
        let checkpoint = read(name);
        assert_eq!(checkpoint.state_dict.keys().collect::<Vec<_>>(), ["weight"]);
        assert_eq!(values(&checkpoint, "weight"), (vec![2, 2], vec![0., 1., 2., 3.]));
    }
    assert_eq!(read("bare").classes, None);
}

#[test]
fn what_is_refused_is_refused_by_name() {
    insta::assert_snapshot!(refusal("unknown_global"));
    insta::assert_snapshot!(refusal("legacy"));
    insta::assert_snapshot!(refusal("torchscript"));
    insta::assert_snapshot!(refusal("compressed"));
    insta::assert_snapshot!(refusal("no_weights"));
    insta::assert_snapshot!(refusal("half_class_map"));
    assert!(!Path::new("detgate-was-here").exists(), "the pickle was executed");
}

#[test]
fn files_that_are_no_checkpoints_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best_x.pt");
    let error = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        load(&path).unwrap_err().to_string()
    };
    assert!(error(b"").ends_with("is empty; copy it again"));
    assert!(error(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
    assert!(error(b"<!DOCTYPE html>").contains("no file that torch.save writes"));
    let tensors = std::fs::read(fixture("dtypes.safetensors")).unwrap();
    assert!(error(&tensors[..tensors.len() - 1]).contains("not a whole safetensors file"));
    assert!(error(&tensors[..64]).contains("not a whole safetensors file"));
    assert!(error(b"\x02\0\0\0\0\0\0\0{}").contains("holds no tensor"));
    assert!(refusal("float8.safetensors").contains("weight of the type F8_E4M3"));
    let whole = std::fs::read(fixture("busy")).unwrap();
    assert!(error(&whole[..whole.len() / 2]).contains("cut short"));
    assert!(matches!(load(Path::new("/no/such.pt")), Err(CheckpointError::Read { .. })));
}

/// A weight with a flipped bit evaluates like any other.
#[test]
fn weights_that_are_not_as_their_checksum_says_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best_x.pt");
    let whole = std::fs::read(fixture("busy")).unwrap();
    std::fs::write(&path, &whole).unwrap();
    let found = load_copied(&path).unwrap();
    let place = |tensor: &Tensor| {
        let bytes: Vec<u8> = tensor.to_f32().into_iter().flat_map(f32::to_le_bytes).collect();
        whole.windows(bytes.len()).position(|window| bytes.len() > 8 && window == bytes)
    };
    let (name, at) =
        found.state_dict.iter().find_map(|(name, tensor)| Some((name, place(tensor)?))).unwrap();
    let tensor = &found.state_dict[name];
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    assert_ne!(load(&path).unwrap().state_dict[name].to_f32()[0], tensor.to_f32()[0]);
    let error = load_copied(&path).unwrap_err().to_string();
    assert!(error.contains("best_x.pt is damaged: the record data/"), "{error}");

    // The pickle, which begins with its protocol, says what the weights are.
    let pickle = whole.windows(2).position(|window| window == b"\x80\x02").unwrap();
    let mut damaged = whole.clone();
    damaged[pickle + 20] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("best_x.pt is damaged: the record data.pkl"), "{error}");
}

#[test]
fn the_newest_best_checkpoint_wins() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(newest(folder.path()), Err(CheckpointError::None(_))));
    assert!(matches!(newest(&folder.path().join("none")), Err(CheckpointError::None(_))));
    let touch = |name: &str, age: u64| {
        let path = folder.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 - age)).unwrap();
        path
    };
    touch("best_old.pt", 9);
    let wanted = touch("best_a_new.pt", 5);
    touch("last.pt", 0);
    touch("best_new.ckpt", 0);
    touch("model.safetensors", 0);
    assert_eq!(newest(folder.path()).unwrap(), wanted);
    let equally_old = touch("best_b.pt", 5);
    assert_eq!(newest(folder.path()).unwrap(), equally_old);
    let newer = touch("best_c.safetensors", 4);
    assert_eq!(newest(folder.path()).unwrap(), newer);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever happens to a file on its way, reading it ends, and not in a panic.
    #[test]
    fn damaged_files_never_panic(
        name in prop::sample::select(vec!["busy", "protocol_4", "views", "dtypes", "dtypes.safetensors"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = std::fs::read(fixture(name)).unwrap();
        for (position, value) in damage {
            let at = position.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        if let Ok(checkpoint) = load(file.path()) {
            for tensor in checkpoint.state_dict.values().filter(|tensor| tensor.len() < 1 << 20) {
                prop_assert_eq!(tensor.to_f32().len(), tensor.len());
            }
        }
    }
}
