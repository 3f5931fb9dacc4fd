//! Detections on seeded weights, from pixels to boxes.

use crate::closeness::Closeness;
use crate::fixture::{ALL, Fixture};
use crate::random;

#[test]
fn end_to_end_at_least_as_close_to_float64_as_torchvision_itself() {
    let mut all = Closeness::default();
    for name in ALL {
        let mut closeness = Closeness::default();
        let fixture = Fixture::load(name);
        let model = fixture.model().build();
        for (i, &(seed, width, height)) in fixture.index.images.iter().enumerate() {
            let ours = model.predict(&random::picture(seed, width, height)).unwrap();
            let theirs = fixture.detections(&format!("end/{i}/channels_last"));
            let reference = fixture.references(&format!("end/{i}/float64"));
            closeness.add(&format!("{name} {i}"), (&ours, &theirs), &reference, 90);
        }
        all.join(name, closeness);
    }
    all.assert("all");
}
