//! The records of a COCO or LVIS annotation file, each valid by itself.
//!
//! Deliberately absent: whatever needs more than one record, such as unique ids (`load`), and the
//! keys that a box evaluation has no use for, above all `segmentation`.

use std::io::Read;

use super::{Bbox, Category, Federation, Frequency, GroundTruth, ImageRecord};
use crate::json::{Cursor, Error, Parsed, Stream, What};

/// What the file holds, in its order.
#[derive(Default)]
pub(super) struct AnnotationFile {
    pub(super) images: Vec<ImageRecord>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) categories: Vec<Category>,
    /// Where an image or a category has one of LVIS's keys.
    pub(super) federation: Option<Federation>,
    /// BLAKE3 of the text, unpacked.
    pub(super) digest: String,
}

/// An object and the image that it is on.
pub(super) struct Annotation {
    pub(super) image_id: i64,
    pub(super) truth: GroundTruth,
}

impl AnnotationFile {
    /// With `ignore_key` an annotation's `ignore` is honoured; pycocotools overwrites it with `iscrowd`.
    pub(super) fn read(source: impl Read, ignore_key: bool) -> Result<Self, Error> {
        let mut file = Self::default();
        let mut federation = Federation::default();
        let mut missing = vec!["images", "annotations", "categories"];
        let mut stream = Stream::new(source);
        stream.object(|stream, key| {
            missing.retain(|wanted| *wanted != key);
            match key {
                "images" => {
                    file.images.clear();
                    federation.negative.clear();
                    federation.not_exhaustive.clear();
                    stream.array(image, |image| image.keep(&mut file.images, &mut federation))
                }
                "annotations" => {
                    file.annotations.clear();
                    let one = |cursor: &mut Cursor| annotation(cursor, ignore_key);
                    stream.array(one, |annotation| file.annotations.push(annotation))
                }
                "categories" => {
                    file.categories.clear();
                    federation.frequency.clear();
                    stream.array(category, |(category, frequency)| {
                        federation.frequency.extend(frequency.map(|f| (category.id, f)));
                        file.categories.push(category);
                    })
                }
                _ => stream.skip(),
            }
        })?;
        if let Some(key) = missing.first() {
            return Err(stream.fault(What::Missing(key)));
        }
        stream.end()?;
        file.digest = stream.digest();
        file.federation = (federation != Federation::default()).then_some(federation);
        Ok(file)
    }
}

/// An image, and what LVIS says about it.
struct Image {
    record: ImageRecord,
    negative: Option<Vec<i64>>,
    not_exhaustive: Option<Vec<i64>>,
}

impl Image {
    fn keep(self, images: &mut Vec<ImageRecord>, federation: &mut Federation) {
        let id = self.record.id;
        federation.negative.extend(self.negative.map(|classes| (id, classes)));
        federation.not_exhaustive.extend(self.not_exhaustive.map(|classes| (id, classes)));
        images.push(self.record);
    }
}

fn image(cursor: &mut Cursor) -> Parsed<Image> {
    let (mut id, mut file_name, mut width, mut height) = (None, None, None, None);
    let (mut negative, mut not_exhaustive) = (None, None);
    cursor.object(|cursor, key| {
        match key {
            b"id" => id = Some(cursor.integer()?),
            // What is not known is not needed either, until somebody looks for the image.
            b"file_name" | b"width" | b"height" if cursor.null() => {}
            b"file_name" => file_name = Some(cursor.string()?.into_owned()),
            b"width" => width = Some(side(cursor)?),
            b"height" => height = Some(side(cursor)?),
            b"neg_category_ids" => negative = Some(ids(cursor)?),
            b"not_exhaustive_category_ids" => not_exhaustive = Some(ids(cursor)?),
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    let record = ImageRecord {
        id: present(cursor, "id", id)?,
        // LVIS has no file names; whoever opens the images looks for one.
        file_name: file_name.unwrap_or_default(),
        path: Default::default(),
        width: width.unwrap_or_default(),
        height: height.unwrap_or_default(),
        ground_truth: Vec::new(),
    };
    Ok(Image { record, negative, not_exhaustive })
}

fn side(cursor: &mut Cursor) -> Parsed<u32> {
    let pixels = cursor.integer()?;
    let what = || format!("{pixels} pixels, but a side has 0 to {}", u32::MAX);
    u32::try_from(pixels).map_err(|_| cursor.fault(What::Invalid(what())))
}

fn ids(cursor: &mut Cursor) -> Parsed<Vec<i64>> {
    let mut ids = Vec::new();
    cursor.array(|cursor| cursor.integer().map(|id| ids.push(id)))?;
    Ok(ids)
}

fn annotation(cursor: &mut Cursor, ignore_key: bool) -> Parsed<Annotation> {
    let (mut id, mut image_id, mut category_id) = (None, None, None);
    let (mut bbox, mut area, mut is_crowd, mut ignore) = (None, None, false, false);
    cursor.object(|cursor, key| {
        match key {
            b"id" => id = Some(cursor.integer()?),
            b"image_id" => image_id = Some(cursor.integer()?),
            b"category_id" => category_id = Some(cursor.integer()?),
            b"bbox" => bbox = Some(Bbox::from(cursor.four_numbers()?)),
            b"area" | b"iscrowd" if cursor.null() => {}
            b"area" => area = Some(cursor.number()?),
            b"iscrowd" => is_crowd = cursor.flag()?,
            b"ignore" if ignore_key => ignore = cursor.flag()?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    let bbox = present(cursor, "bbox", bbox)?;
    let truth = GroundTruth {
        id: present(cursor, "id", id)?,
        category_id: present(cursor, "category_id", category_id)?,
        bbox,
        area: area.unwrap_or_else(|| bbox.area()),
        is_crowd,
        ignore,
    };
    if bbox.w < 0.0 || bbox.h < 0.0 || truth.area < 0.0 {
        let what = format!(
            "annotation {} has the box {:?} and area {}; width, height and area must not be negative",
            truth.id,
            <[f64; 4]>::from(bbox),
            truth.area
        );
        return Err(cursor.fault(What::Invalid(what)));
    }
    Ok(Annotation { image_id: present(cursor, "image_id", image_id)?, truth })
}

fn category(cursor: &mut Cursor) -> Parsed<(Category, Option<Frequency>)> {
    let (mut id, mut name, mut frequency) = (None, None, None);
    cursor.object(|cursor, key| {
        match key {
            b"id" => id = Some(cursor.integer()?),
            b"name" => name = Some(cursor.string()?.into_owned()),
            b"frequency" => frequency = Some(read_frequency(cursor)?),
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    let category =
        Category { id: present(cursor, "id", id)?, name: present(cursor, "name", name)? };
    Ok((category, frequency))
}

fn read_frequency(cursor: &mut Cursor) -> Parsed<Frequency> {
    match cursor.string()?.as_ref() {
        "r" => Ok(Frequency::Rare),
        "c" => Ok(Frequency::Common),
        "f" => Ok(Frequency::Frequent),
        _ => Err(cursor.fault(What::Expected("\"r\", \"c\" or \"f\""))),
    }
}

fn present<T>(cursor: &Cursor, key: &'static str, value: Option<T>) -> Parsed<T> {
    value.ok_or_else(|| cursor.fault(What::Missing(key)))
}
