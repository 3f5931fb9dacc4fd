//! A world of images, and two detectors of one training recipe that look at them.
//!
//! Everything that is correlated in practice is correlated here: objects of an image by the image's
//! difficulty, images of a group (a video) by the group's, the two detectors by the difficulty of
//! image, group, object and background, which both see. What is a detector's own is its noise on an
//! object, on an image and on a group. Where both have the same [`Damage`], swapping the two changes
//! no probability: the true change is exactly 0 for every metric.

#[path = "../../tests/common/random.rs"]
mod random;

use std::path::PathBuf;

use detgate::dataset::{Bbox, Category, GroundTruth, ImageRecord};
use detgate::detections::Detection;
use detgate::gate::statistics::normal;
pub(crate) use random::Random;

/// How common each class is, among objects and among images' main classes.
const FREQUENCIES: [f64; 5] = [0.45, 0.27, 0.16, 0.09, 0.03];

/// Objects on an image of medium difficulty, on average.
const OBJECTS: f64 = 6.0;

/// Places in the background of an image that may be taken for an object, on average.
const DISTRACTIONS: f64 = 5.0;

/// What a detector is worse at than its recipe.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) struct Damage {
    /// The share of objects that it no longer finds, of those that it did.
    pub(crate) missed: f64,
    /// False positives added to an image, on average, scored as the others.
    pub(crate) extra: f64,
}

/// How images hang together.
#[derive(Clone, Copy)]
pub(crate) struct World {
    /// Images in a group; 1 where images are independent.
    pub(crate) group_size: usize,
    /// How much a detector's luck is the same on all images of a group; 0 where it is not.
    pub(crate) group_noise: f64,
}

/// Images that do not come in groups.
pub(crate) const INDEPENDENT: World = World { group_size: 1, group_noise: 0.0 };

/// Images with what the baseline and the candidate say about them.
pub(crate) struct Sample {
    /// Ground truth.
    pub(crate) images: Vec<ImageRecord>,
    /// Of the baseline and of the candidate.
    pub(crate) sides: [Vec<Vec<Detection>>; 2],
}

/// The classes, from the most common to the rarest.
pub(crate) fn categories() -> Vec<Category> {
    let ids = 1..=FREQUENCIES.len() as i64;
    ids.map(|id| Category { id, name: format!("class{id}") }).collect()
}

impl Random {
    /// Of `seed`; `stream` makes many from one seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let start = Self::seeded(seed).next();
        Self::seeded(start ^ stream.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// In (0, 1).
    fn inside(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.inside() * (high - low)
    }

    fn normal(&mut self) -> f64 {
        normal::quantile(self.inside())
    }

    /// Knuth's method: small means only.
    fn poisson(&mut self, mean: f64) -> usize {
        let limit = libm::exp(-mean);
        let mut product = self.inside();
        let mut count = 0;
        while product > limit {
            product *= self.inside();
            count += 1;
        }
        count
    }

    /// Half of the objects are of the image's main class.
    fn class(&mut self, main: Option<i64>) -> i64 {
        if let Some(main) = main.filter(|_| self.inside() < 0.5) {
            return main;
        }
        let mut rest = self.inside();
        let place = FREQUENCIES.iter().position(|frequency| {
            rest -= frequency;
            rest < 0.0
        });
        place.map_or(FREQUENCIES.len() as i64, |place| place as i64 + 1)
    }

    /// Log-uniform sides: of all of COCO's sizes.
    fn bbox(&mut self) -> Bbox {
        let (w, h) = (self.between(2.5, 5.5), self.between(2.5, 5.5));
        let (x, y) = (self.between(0.0, 1600.0), self.between(0.0, 1200.0));
        Bbox { x, y, w: libm::exp(w), h: libm::exp(h) }
    }
}

/// Draws `count` images and what two detectors say about them; the candidate's `damage` on top of the
/// recipe that both have.
pub(crate) fn draw(world: World, count: usize, damage: Damage, mut random: Random) -> Sample {
    let mut sample = Sample { images: Vec::new(), sides: [Vec::new(), Vec::new()] };
    let mut group = Conditions::default();
    for place in 0..count {
        if place % world.group_size == 0 && world.group_size > 1 {
            group = Conditions::draw(&mut random, 0.7, world.group_noise);
        }
        let own = Conditions::draw(&mut random, 0.7, 0.2);
        let (image, sides) = scene(&mut random, place, &group.and(&own), damage);
        sample.images.push(image);
        for (all, detections) in sample.sides.iter_mut().zip(sides) {
            all.push(detections);
        }
    }
    sample
}

/// What an image, or all images of a group, have in common.
#[derive(Clone, Copy, Default)]
struct Conditions {
    /// For both detectors.
    difficulty: f64,
    /// For each.
    luck: [f64; 2],
}

impl Conditions {
    fn draw(random: &mut Random, difficulty: f64, luck: f64) -> Self {
        let difficulty = difficulty * random.normal();
        Self { difficulty, luck: [luck * random.normal(), luck * random.normal()] }
    }

    fn and(&self, other: &Self) -> Self {
        let [a, b] = self.luck;
        let [c, d] = other.luck;
        Self { difficulty: self.difficulty + other.difficulty, luck: [a + c, b + d] }
    }
}

/// What one detector sees of one place, and its detections so far.
struct Glance<'d> {
    class: i64,
    bbox: Bbox,
    /// How sure it is, before the logistic function.
    strength: f64,
    detections: &'d mut Vec<Detection>,
}

impl Glance<'_> {
    /// `shared` is the part of the localisation error that both detectors make.
    fn report(self, random: &mut Random, shared: [f64; 4]) {
        let score = 1.0 / (1.0 + libm::exp(-1.3 * self.strength));
        let mut moved = |k: usize, side: f64, amount: f64| {
            side * amount * (0.8 * shared[k] + 0.6 * random.normal())
        };
        let Bbox { x, y, w, h } = self.bbox;
        let (dx, dy) = (moved(0, w, 0.05), moved(1, h, 0.05));
        let (dw, dh) = (moved(2, w, 0.07), moved(3, h, 0.07));
        let bbox = Bbox { x: x + dx, y: y + dy, w: (w + dw).max(1.0), h: (h + dh).max(1.0) };
        self.detections.push(Detection { bbox, score, category_id: self.class });
    }
}

fn scene(
    random: &mut Random,
    place: usize,
    conditions: &Conditions,
    damage: Damage,
) -> (ImageRecord, [Vec<Detection>; 2]) {
    let main = random.class(None);
    let mut sides = [Vec::new(), Vec::new()];
    // Crowded images are as common as empty ones.
    let crowded = libm::exp(0.5 * random.normal() - 0.125);
    let mut ground_truth = Vec::new();
    for k in 0..random.poisson(OBJECTS * crowded) {
        let (class, bbox) = (random.class(Some(main)), random.bbox());
        let id = (place * 1000 + k + 1) as i64;
        ground_truth.push(GroundTruth {
            id,
            category_id: class,
            bbox,
            area: bbox.area(),
            is_crowd: false,
            ignore: false,
        });
        find(random, (class, bbox), conditions, damage, &mut sides);
    }
    for _ in 0..random.poisson(DISTRACTIONS * libm::exp(0.4 * conditions.difficulty)) {
        distract(random, main, conditions, &mut sides);
    }
    for _ in 0..random.poisson(damage.extra) {
        let mut candidate_only = [Vec::new(), Vec::new()];
        distract(random, main, conditions, &mut candidate_only);
        let [_, extra] = candidate_only;
        sides[1].extend(extra);
    }
    let image = ImageRecord {
        id: place as i64 + 1,
        file_name: format!("{place:08}.jpg"),
        path: PathBuf::new(),
        width: 1800,
        height: 1400,
        ground_truth,
    };
    (image, sides)
}

/// Both detectors look at an object.
fn find(
    random: &mut Random,
    (class, bbox): (i64, Bbox),
    conditions: &Conditions,
    damage: Damage,
    sides: &mut [Vec<Detection>; 2],
) {
    let clarity = 1.2 - conditions.difficulty + 0.8 * random.normal();
    let shared = [(); 4].map(|()| random.normal());
    for (side, detections) in sides.iter_mut().enumerate() {
        let strength = clarity + conditions.luck[side] + 0.5 * random.normal();
        // Drawn for both, so that damage changes nothing else.
        let unlucky = random.inside() < damage.missed && side == 1;
        if strength < -0.6 || unlucky {
            continue;
        }
        Glance { class, bbox, strength, detections }.report(random, shared);
        if random.inside() < 0.06 {
            let duplicate = strength - random.between(0.5, 2.5);
            Glance { class, bbox, strength: duplicate, detections }.report(random, shared);
        }
    }
}

/// Both detectors look at a place where there is nothing.
fn distract(
    random: &mut Random,
    main: i64,
    conditions: &Conditions,
    sides: &mut [Vec<Detection>; 2],
) {
    let (class, bbox) = (random.class(Some(main)), random.bbox());
    let likeness = -1.0 + 0.9 * random.normal();
    for (side, detections) in sides.iter_mut().enumerate() {
        let strength = likeness - conditions.luck[side] + 0.5 * random.normal();
        if strength > -1.6 {
            Glance { class, bbox, strength, detections }.report(random, [0.0; 4]);
        }
    }
}
