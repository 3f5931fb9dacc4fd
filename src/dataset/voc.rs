//! A folder of Pascal VOC annotations to a validated [`Dataset`].
//!
//! Source: the VOC2012 development kit (section 4 of its guide and `VOCreadxml`), and how Detectron2
//! makes continuous boxes of its pixel indices (`load_voc_instances`).
//!
//! Deliberately absent: `ImageSets` (every annotation below the folder is read), the objects' parts,
//! poses and actions, and segmentation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use roxmltree::{Document, Node, ParsingOptions};

use super::class_list::{self, ClassList};
use super::folder::{Digest, Found, from_image, image_ids, invalid, read_text, walk};
use super::image::dimensions;
use super::{Bbox, Category, Dataset, DatasetError, GroundTruth, ImageRecord};

/// Where class names are looked for, in each folder in this order.
const CLASS_LISTS: [&str; 2] = ["labels.txt", "classes.txt"];

/// Where the VOCdevkit has its annotations.
const ANNOTATIONS: &str = "Annotations/";

/// More elements than any image has objects; bounds the memory that one file can cost.
const MAX_NODES: u32 = 4_000_000;

/// Reads the Pascal VOC annotations below `folder`: a folder of the VOCdevkit with `Annotations` in
/// it, or any folder with `*.xml`.
///
/// - **Boxes**: VOC's corners are pixel indices, counted from 1, both inclusive; floats occur. The
///   box is `x = xmin - 1`, `y = ymin - 1`, `w = xmax - xmin + 1`, `h = ymax - ymin + 1`, as
///   Detectron2 reads it, so that one from 1 to the image's width covers the whole image. Boxes are
///   not clipped.
/// - **`difficult`** objects get [`GroundTruth::ignore`]: VOC counts them neither as missed nor as
///   found.
/// - **Category ids** are 1, 2, 3 in the order of `labels.txt` or `classes.txt` (one name a line, in
///   `folder`, beside the annotations, or in its parent); without either, in the alphabetical order
///   of the names that occur.
/// - **Image ids** are the numbers that the file names spell (`000005.jpg` is 5), if all do and no
///   two are equal; otherwise 1, 2, 3 in the order of the names.
/// - **Images** are looked for in `images`; without it in `JPEGImages` or `images` beside
///   `Annotations`, and beside the file. They need not be there: the annotations say how large they are. Only where
///   `<size>` is missing or 0, the image's header must tell. Where none is found, `path` is where the
///   first was expected.
/// - The digest is over class names, the annotations' names and text and the image sizes, in sorted
///   order.
///
/// # Errors
/// An unreadable folder or file; what is not XML, or not VOC's; a box whose corners are swapped or
/// not finite; an element that is missing or there twice; two annotations of one image; a class that
/// is not in the list. File, line and column are named. A document type is refused: nothing is
/// fetched or expanded.
pub fn load_voc(folder: &Path, images: Option<&Path>) -> Result<Dataset, DatasetError> {
    let files = walk(folder)?;
    let files = annotation_files(&files);
    if files.is_empty() {
        return Err(invalid(folder, "holds no *.xml; expected Pascal VOC annotations"));
    }
    let results: Vec<Result<Annotated, DatasetError>> =
        files.par_iter().map(|file| read(file, folder, images)).collect();
    // In order, so that of many faults always the same one is reported.
    let mut annotated: Vec<Annotated> = results.into_iter().collect::<Result<_, _>>()?;
    annotated.sort_by(|a, b| (&a.file_name, &a.path).cmp(&(&b.file_name, &b.path)));
    if let Some([a, b]) = annotated.array_windows().find(|[a, b]| a.file_name == b.file_name) {
        let what = format!("is of the image {:?}, as is {}", b.file_name, a.path.display());
        return Err(invalid(&b.path, what + "; remove one"));
    }
    let categories = categories(folder, &annotated)?;
    assemble(annotated, categories)
}

/// Of the files below a folder the `*.xml`; those in `Annotations` only, if the folder has one.
pub(super) fn annotation_files(files: &[Found]) -> Vec<&Found> {
    let inner = |file: &Found| file.relative.starts_with(ANNOTATIONS);
    let devkit = files.iter().any(inner);
    files.iter().filter(|file| file.has_extension(&["xml"]) && (!devkit || inner(file))).collect()
}

/// What one file says.
struct Annotated {
    /// The annotation file.
    path: PathBuf,
    /// Relative to the annotations' folder, for the digest.
    relative: String,
    text: String,
    file_name: String,
    image: PathBuf,
    /// Pixels.
    size: (u32, u32),
    objects: Vec<Object>,
}

struct Object {
    name: String,
    bbox: Bbox,
    difficult: bool,
    /// Where it starts in the file, bytes.
    start: usize,
}

fn read(file: &Found, folder: &Path, images: Option<&Path>) -> Result<Annotated, DatasetError> {
    let text = read_text(&file.path)?;
    let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&text, options).map_err(|error| {
        let position = error.pos();
        let what = format!("line {}, column {} is not XML: {error}", position.row, position.col);
        invalid(&file.path, what)
    })?;
    let xml = Xml { path: &file.path, document: &document };
    let root = document.root_element();
    if root.tag_name().name() != "annotation" {
        let found = format!("<{}> is not Pascal VOC's; expected <annotation>", name(root));
        return Err(xml.wrong(root, found));
    }
    let file_name = xml.text(xml.child(root, "filename")?)?;
    let image = find_image(&file_name, &file.path, folder, images);
    let size = match xml.size(root)? {
        Some(size) => size,
        None => xml.size_of(root, &image)?,
    };
    let objects = children(root, "object").map(|object| xml.object(object));
    let objects = objects.collect::<Result<_, _>>()?;
    let path = file.path.clone();
    // The same from the devkit's folder and from its `Annotations`.
    let relative = file.relative.strip_prefix(ANNOTATIONS).unwrap_or(&file.relative).to_owned();
    Ok(Annotated { path, relative, file_name, image, size, objects, text })
}

/// One file's tree, and the sentences about it.
struct Xml<'a, 'input> {
    path: &'a Path,
    document: &'a Document<'input>,
}

fn name<'a>(node: Node<'a, '_>) -> &'a str {
    node.tag_name().name()
}

/// Direct children only: an object's parts have boxes and names of their own.
fn children<'a, 'input>(
    node: Node<'a, 'input>,
    wanted: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.is_element() && name(*child) == wanted)
}

impl Xml<'_, '_> {
    /// For messages only: it counts the lines from the start of the file.
    fn position(&self, node: Node<'_, '_>) -> String {
        let position = self.document.text_pos_at(node.range().start);
        format!("line {}, column {}", position.row, position.col)
    }

    fn wrong(&self, node: Node<'_, '_>, what: impl std::fmt::Display) -> DatasetError {
        invalid(self.path, format!("{}: {what}", self.position(node)))
    }

    /// The one child of that name, if there is any.
    fn optional<'a, 'input>(
        &self,
        node: Node<'a, 'input>,
        wanted: &'static str,
    ) -> Result<Option<Node<'a, 'input>>, DatasetError> {
        let mut found = children(node, wanted);
        let first = found.next();
        if let Some(second) = found.next() {
            let what = format!("there is a second <{wanted}> in this <{}>; remove one", name(node));
            return Err(self.wrong(second, what));
        }
        Ok(first)
    }

    fn child<'a, 'input>(
        &self,
        node: Node<'a, 'input>,
        wanted: &'static str,
    ) -> Result<Node<'a, 'input>, DatasetError> {
        self.optional(node, wanted)?
            .ok_or_else(|| self.wrong(node, format!("<{}> has no <{wanted}>", name(node))))
    }

    /// The text in an element, which must not be empty.
    fn text(&self, node: Node<'_, '_>) -> Result<String, DatasetError> {
        // Comments cut text into several nodes.
        let pieces = node.children().filter(Node::is_text);
        let text: String = pieces.filter_map(|piece| piece.text()).collect();
        match text.trim() {
            "" => Err(self.wrong(node, format!("<{}> is empty", name(node)))),
            text => Ok(text.to_owned()),
        }
    }

    fn number(&self, node: Node<'_, '_>) -> Result<f64, DatasetError> {
        let text = self.text(node)?;
        text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| {
            self.wrong(node, format!("<{}> is {text:?}; expected a number", name(node)))
        })
    }

    /// Width and height; nothing where `<size>` is missing or 0, as some tools write it.
    fn size(&self, root: Node<'_, '_>) -> Result<Option<(u32, u32)>, DatasetError> {
        let Some(size) = self.optional(root, "size")? else {
            return Ok(None);
        };
        let side = |wanted| {
            let node = self.child(size, wanted)?;
            let pixels = self.number(node)?;
            if pixels.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&pixels) {
                let what = format!("<{wanted}> is {pixels}; expected a whole number of pixels");
                return Err(self.wrong(node, what));
            }
            Ok(pixels as u32)
        };
        let (width, height) = (side("width")?, side("height")?);
        Ok((width > 0 && height > 0).then_some((width, height)))
    }

    fn size_of(&self, root: Node<'_, '_>, image: &Path) -> Result<(u32, u32), DatasetError> {
        if !image.is_file() {
            let what = "there is no <size> with width and height, and the image that could tell";
            return Err(self.wrong(root, format!("{what} is not at {}", image.display())));
        }
        Ok(dimensions(image).map_err(from_image)?.upright())
    }

    fn object(&self, node: Node<'_, '_>) -> Result<Object, DatasetError> {
        let difficult =
            self.optional(node, "difficult")?.map(|flag| self.flag(flag)).transpose()?;
        Ok(Object {
            name: self.text(self.child(node, "name")?)?,
            bbox: self.bbox(self.child(node, "bndbox")?)?,
            difficult: difficult.unwrap_or(false),
            start: node.range().start,
        })
    }

    fn flag(&self, node: Node<'_, '_>) -> Result<bool, DatasetError> {
        match self.text(node)?.as_str() {
            "0" => Ok(false),
            "1" => Ok(true),
            text => Err(self.wrong(node, format!("<{}> is {text:?}; expected 0 or 1", name(node)))),
        }
    }

    fn bbox(&self, node: Node<'_, '_>) -> Result<Bbox, DatasetError> {
        let corner = |wanted| self.number(self.child(node, wanted)?);
        let (xmin, ymin) = (corner("xmin")?, corner("ymin")?);
        let (xmax, ymax) = (corner("xmax")?, corner("ymax")?);
        for (axis, min, max) in [('x', xmin, xmax), ('y', ymin, ymax)] {
            if max < min {
                let what = format!("{axis}max is {max}, less than {axis}min, which is {min}");
                return Err(self.wrong(node, what));
            }
        }
        let bbox = Bbox::from_xyxy([xmin - 1.0, ymin - 1.0, xmax, ymax]);
        if !bbox.area().is_finite() {
            return Err(self.wrong(node, "the box is too large to have an area"));
        }
        Ok(bbox)
    }
}

/// The first of the usual places that has the image; the first of all where none has.
fn find_image(name: &str, annotation: &Path, folder: &Path, images: Option<&Path>) -> PathBuf {
    if let Some(images) = images {
        return images.join(name);
    }
    let own = annotation.parent().unwrap_or(folder);
    // Below `Annotations` there may be folders; the images are beside it all the same.
    let devkit = own.ancestors().find(|above| above.ends_with("Annotations"));
    let beside = devkit.unwrap_or(own).parent().unwrap_or(folder);
    let mut places = [beside.join("JPEGImages"), beside.join("images"), own.to_owned()];
    if devkit.is_none() {
        places.rotate_right(1);
    }
    let paths = places.map(|place| place.join(name));
    paths.iter().find(|path| path.is_file()).unwrap_or(&paths[0]).clone()
}

fn categories(folder: &Path, annotated: &[Annotated]) -> Result<Vec<Category>, DatasetError> {
    let mut folders = vec![folder.to_owned(), folder.join("Annotations")];
    let absolute = std::path::absolute(folder).ok();
    folders.extend(absolute.as_deref().and_then(Path::parent).map(Path::to_owned));
    if let Some(list) = class_list::find(&folders, &CLASS_LISTS)? {
        require_listed(&list, annotated)?;
        return Ok(list.categories());
    }
    let names: BTreeSet<&str> = annotated
        .iter()
        .flat_map(|file| file.objects.iter().map(|object| object.name.as_str()))
        .collect();
    if names.is_empty() {
        let what = "there is no object in any annotation, so the classes are unknown; list their \
                    names in labels.txt, one a line";
        return Err(invalid(folder, what));
    }
    Ok((1..).zip(names).map(|(id, name)| Category { id, name: name.to_owned() }).collect())
}

fn require_listed(list: &ClassList, annotated: &[Annotated]) -> Result<(), DatasetError> {
    let listed: BTreeSet<&String> = list.names.iter().collect();
    for file in annotated {
        if let Some(object) = file.objects.iter().find(|object| !listed.contains(&object.name)) {
            let before = &file.text[..object.start];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let what = format!(
                "line {line}, column {column}: the class {:?} is not in {}; add it there",
                object.name,
                list.path.display()
            );
            return Err(invalid(&file.path, what));
        }
    }
    Ok(())
}

fn assemble(annotated: Vec<Annotated>, categories: Vec<Category>) -> Result<Dataset, DatasetError> {
    let ids = image_ids(annotated.iter().map(|file| file.file_name.as_str()));
    let by_name: BTreeMap<&str, i64> =
        categories.iter().map(|category| (category.name.as_str(), category.id)).collect();
    let mut digest = Digest::default();
    categories.iter().for_each(|category| digest.field(&category.name));
    let mut annotation_ids = 1..;
    let mut images = Vec::with_capacity(annotated.len());
    for (file, id) in annotated.into_iter().zip(ids) {
        let (width, height) = file.size;
        digest.field(&file.relative);
        digest.size(width, height);
        digest.field(&file.text);
        let objects = file.objects.iter().zip(&mut annotation_ids);
        let ground_truth = objects.map(|(object, id)| GroundTruth {
            id,
            category_id: by_name[object.name.as_str()],
            bbox: object.bbox,
            area: object.bbox.area(),
            is_crowd: false,
            ignore: object.difficult,
        });
        images.push(ImageRecord {
            id,
            ground_truth: ground_truth.collect(),
            file_name: file.file_name,
            path: file.image,
            width,
            height,
        });
    }
    Ok(Dataset { categories, images, federation: None, digest: digest.finish() })
}
