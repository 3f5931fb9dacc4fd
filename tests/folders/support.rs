//! Small data sets in temporary folders.

use std::path::{Path, PathBuf};

use detgate::dataset::{Dataset, DatasetError, load_voc, load_yolo};

/// A folder that is filled file by file.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.write(name, content);
        self
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.0.path().to_owned() } else { self.0.path().join(name) }
    }

    pub(crate) fn yolo(&self) -> Result<Dataset, DatasetError> {
        load_yolo(self.0.path(), None)
    }

    pub(crate) fn voc(&self) -> Result<Dataset, DatasetError> {
        load_voc(self.0.path(), None)
    }

    /// The sentence, without the temporary folder's name.
    pub(crate) fn sentence(&self, error: DatasetError) -> String {
        error.to_string().replace(&self.0.path().display().to_string(), "DIR")
    }
}

/// The header of a bitmap; its size is all that is read.
pub(crate) fn image(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = vec![0; 54];
    bytes[..2].copy_from_slice(b"BM");
    bytes[14] = 40;
    bytes[18..22].copy_from_slice(&width.to_le_bytes());
    bytes[22..26].copy_from_slice(&height.to_le_bytes());
    bytes
}

/// An object's category, and its box as x, y, width and height.
pub(crate) type Labelled = (i64, [f64; 4]);

/// Each image's name, and its objects.
pub(crate) fn boxes(dataset: &Dataset) -> Vec<(&str, Vec<Labelled>)> {
    let of = |image: &detgate::dataset::ImageRecord| {
        image.ground_truth.iter().map(|gt| (gt.category_id, gt.bbox.into())).collect()
    };
    dataset.images.iter().map(|image| (image.file_name.as_str(), of(image))).collect()
}

pub(crate) fn names(dataset: &Dataset) -> Vec<(i64, &str)> {
    dataset.categories.iter().map(|category| (category.id, category.name.as_str())).collect()
}

pub(crate) fn ids(dataset: &Dataset) -> Vec<i64> {
    dataset.images.iter().map(|image| image.id).collect()
}

pub(crate) fn relative<'a>(path: &'a Path, folder: &Folder) -> &'a str {
    path.strip_prefix(folder.path("")).unwrap().to_str().unwrap()
}
