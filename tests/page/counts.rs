//! The numbers that the page itself computes.

use detgate::dataset::{self, Classes};
use detgate::detections::coco_results;
use detgate::matching::coco::CocoParams;
use detgate::metrics::details::{DetailParams, details};
use serde_json::json;

use crate::chromium::Tab;
use crate::support::{compared, random_files, slide};

/// What the slider counts is what the evaluation counts, at any score, with crowds, ties and many classes.
#[test]
fn counts_on_the_page_are_those_of_the_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    random_files(folder.path());
    let ran = compared(folder.path());
    std::fs::write(path("page.html"), &ran.stdout).unwrap();
    let Some(mut tab) = Tab::open(&folder.path().join("page.html")) else { return };
    let dataset =
        dataset::load_annotations(path("gt.json").as_ref(), &Classes::FromFile, None).unwrap();
    for score_thr in [0.05, 0.3, 0.5, 0.77] {
        slide(&mut tab, score_thr);
        let mut seen = 0;
        for kind in ["worse", "better"] {
            tab.eval(&format!("document.querySelector('[data-kind={kind}]').click()"));
            let cards = tab.eval(
                "[...document.querySelectorAll('.card')].map((card) => [card.querySelector('.file').textContent, \
                 ...['baseline', 'candidate'].map((side) => { const d = card.querySelector(`[data-side=${side}]`).dataset; \
                 return [d.tp, d.fp, d.fn].map(Number); })])",
            );
            for (side, file) in [(1, "a.json"), (2, "b.json")] {
                let found = coco_results::read(path(file).as_ref()).unwrap();
                let found = found.by_image(&dataset.images);
                let found = found.on(&dataset.images);
                let wanted = DetailParams { score_thr, ..DetailParams::default() };
                let details =
                    details(&dataset.categories, &found, &wanted, &CocoParams::default()).unwrap();
                for card in cards.as_array().unwrap() {
                    let image = dataset.images.iter().find(|i| i.file_name == card[0]).unwrap();
                    let result = details.per_image.iter().find(|r| r.image_id == image.id).unwrap();
                    let tally = result.tally;
                    assert_eq!(
                        card[side],
                        json!([tally.tp, tally.fp, tally.fn_]),
                        "{card} {score_thr}"
                    );
                    seen += 1;
                }
            }
        }
        assert!(seen >= 40, "{seen}");
    }
    assert_eq!(tab.complaints(), Vec::<String>::new());
}
