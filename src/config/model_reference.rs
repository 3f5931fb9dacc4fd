//! A version of a registered model, as MLflow names it.

use std::fmt;

/// `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReference {
    /// The registered model's name.
    pub name: String,
    /// Which of its versions.
    pub version: ModelVersion,
}

/// Which version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelVersion {
    /// The one that an alias points to.
    Alias(String),
    /// The one with this number.
    Number(String),
}

impl ModelReference {
    /// Reads MLflow's URI; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("models:/")?;
        let (name, version) = match rest.rsplit_once('@') {
            Some((name, alias)) => (name, ModelVersion::Alias(alias.to_owned())),
            None => {
                let (name, number) = rest.rsplit_once('/')?;
                let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
                (name, is_number.then(|| ModelVersion::Number(number.to_owned()))?)
            }
        };
        let (ModelVersion::Alias(which) | ModelVersion::Number(which)) = &version;
        // MLflow allows neither in a name.
        let is_whole = !name.is_empty() && !name.contains(['/', ':']) && !which.is_empty();
        is_whole.then(|| Self { name: name.to_owned(), version })
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            ModelVersion::Alias(alias) => write!(f, "models:/{}@{alias}", self.name),
            ModelVersion::Number(number) => write!(f, "models:/{}/{number}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ModelReference;

    #[test]
    fn a_reference_names_an_alias_or_a_version() {
        for text in ["models:/detector@champion", "models:/detector/12", "models:/a@b@champion"] {
            assert_eq!(ModelReference::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "detector@champion",
            "models:",
            "models:/",
            "models:/detector",
            "models:/@x",
            "models:/d@",
            "models:/d/",
            "models:/d/x",
            "models:/a/1@b",
            "models:a@b",
        ] {
            assert_eq!(ModelReference::parse(text), None, "{text}");
        }
    }
}
