//! The HTML page of a report, and the pictures on it.

use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use detgate::config::Config;
use detgate::dataset::ImageRecord;
use detgate::dataset::image::{self, thumbnail};
use detgate::gate::GalleryImage;
use detgate::report::html::{self, PICTURE_BYTES, PICTURE_SIDE, Pictures};
use detgate::report::{self, Report};
use rayon::prelude::*;

/// The page beside the JSON report of an evaluation.
pub(crate) fn write(config: &Config, report: &Report) -> anyhow::Result<()> {
    let Some(path) = path(config) else { return remove(config) };
    let text = of_folder(report, Some(&config.images))?;
    report::write(&path, &text).with_context(|| {
        format!("cannot write the page {}; pass --report FILE or --no-html", path.display())
    })
}

/// Where the page goes; `None` where none is wanted.
pub(crate) fn path(config: &Config) -> Option<PathBuf> {
    let path = config.report.with_extension("html");
    (config.html && path != config.report).then_some(path)
}

/// Takes away the page of an earlier run: nobody shall take it for that of the report beside it.
pub(crate) fn remove(config: &Config) -> anyhow::Result<()> {
    let path = config.report.with_extension("html");
    if path == config.report {
        return Ok(());
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the old page {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The page with pictures from a folder.
pub(crate) fn of_folder(report: &Report, folder: Option<&Path>) -> anyhow::Result<String> {
    let path = |image: &GalleryImage| match folder {
        Some(folder) => inside(folder, &image.file_name),
        None => Err("the folder of the images is not known: pass --images DIR".to_owned()),
    };
    Ok(html::page(report, &pictures(report, path))?)
}

/// The page with pictures from a folder or, without one, from where a data set without one has them.
pub(crate) fn of_images(
    report: &Report,
    folder: Option<&Path>,
    images: &[ImageRecord],
) -> anyhow::Result<String> {
    let known = |gallery: &GalleryImage| {
        let image = images.iter().find(|image| image.id == gallery.image_id);
        image.map(|image| image.path.clone()).filter(|path| path.is_file())
    };
    match folder {
        Some(folder) => of_folder(report, Some(folder)),
        None => {
            let path = |image: &GalleryImage| {
                known(image).ok_or_else(|| {
                    "the folder of the images is not known: pass --images DIR".to_owned()
                })
            };
            Ok(html::page(report, &pictures(report, path))?)
        }
    }
}

/// A report that came from elsewhere must not put other files of this machine into a page.
fn inside(folder: &Path, file_name: &str) -> Result<PathBuf, String> {
    let mut parts = Path::new(file_name).components();
    match parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        true => Ok(folder.join(file_name)),
        false => Err("its name leads out of the folder of the images".to_owned()),
    }
}

fn pictures(
    report: &Report,
    path: impl Fn(&GalleryImage) -> Result<PathBuf, String> + Sync,
) -> Pictures {
    let gallery = report.analysis.as_ref().map_or(&[][..], |analysis| &analysis.gallery);
    let picture = |gallery: &GalleryImage| {
        let small = path(gallery).and_then(|path| {
            // No path of this machine is shown: the page has the image's name.
            let pixels = image::decode(&path).map_err(|error| match error {
                image::ImageError::Read { error, .. } => format!("it cannot be read: {error}"),
                image::ImageError::Decode { error, .. } => error.to_string(),
            })?;
            thumbnail(&pixels, PICTURE_SIDE, PICTURE_BYTES)
        });
        (gallery.image_id, small)
    };
    gallery.par_iter().map(picture).collect()
}
