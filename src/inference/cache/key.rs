//! What predictions depend on, beside the image.

use std::collections::BTreeMap;

use super::record::KeyBytes;

/// Another name when the meaning of a key's facts or of a record changes.
const CONTEXT: &str = "detgate predictions, version 1";

/// A digest of the sources that turn image bytes into detections, and of the decoders' and libtorch's
/// versions (`build.rs`): whoever changes them cannot forget to say so here.
pub const SOURCES: &str = env!("DETGATE_INFERENCE_SOURCES");

/// Everything that changes what is found on an image, as named facts and as their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The name of the model's file and its settings, for people.
    shown: [(&'static str, String); 2],
    facts: BTreeMap<String, String>,
    bytes: KeyBytes,
}

impl Key {
    /// Of these facts, and of the code and processor that are running.
    pub fn new<'f>(facts: impl IntoIterator<Item = (&'f str, String)>) -> Self {
        let mut facts: BTreeMap<String, String> =
            facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        facts.insert("sources".to_owned(), SOURCES.to_owned());
        facts.insert("processor".to_owned(), processor());
        // A map of texts always has a JSON form.
        let json = serde_json::to_string(&facts).unwrap_or_default();
        Self {
            shown: Default::default(),
            facts,
            bytes: blake3::derive_key(CONTEXT, json.as_bytes()),
        }
    }

    /// The same, with the name of the model's file and its settings for people; nothing depends on these.
    pub fn called(self, file: &str, settings: &str) -> Self {
        Self { shown: [("file", file.to_owned()), ("settings", settings.to_owned())], ..self }
    }

    /// The facts, by name, with the `file` and the `settings`.
    pub(super) fn described(&self) -> BTreeMap<String, String> {
        let mut facts = self.facts.clone();
        facts.extend(self.shown.iter().map(|(name, text)| ((*name).to_owned(), text.clone())));
        facts
    }

    pub(super) fn bytes(&self) -> &KeyBytes {
        &self.bytes
    }

    /// As the names of files hold it.
    pub(super) fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.bytes).to_hex().to_string()
    }
}

/// What libtorch, MKL and oneDNN choose their kernels and block sizes by: the exact processor, and the
/// instructions that it is allowed to use.
#[cfg(target_arch = "x86_64")]
fn processor() -> String {
    use std::arch::x86_64::__cpuid;
    let vendor = __cpuid(0);
    let signature = __cpuid(1).eax;
    let has = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512vl", std::arch::is_x86_feature_detected!("avx512vl")),
        ("avx512bw", std::arch::is_x86_feature_detected!("avx512bw")),
        ("avx512dq", std::arch::is_x86_feature_detected!("avx512dq")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
    ];
    let has = has.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect::<Vec<_>>();
    let vendor: Vec<u8> =
        [vendor.ebx, vendor.edx, vendor.ecx].into_iter().flat_map(u32::to_le_bytes).collect();
    format!("{} {signature:08x} {}", String::from_utf8_lossy(&vendor), has.join(" "))
}

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> String {
    std::env::consts::ARCH.to_owned()
}
