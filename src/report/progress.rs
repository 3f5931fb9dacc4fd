//! A progress bar with rate and time left; silent where no person watches.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far a loop over images has come, on the terminal only.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar over `images`; indicatif draws on standard error, and only where that is a terminal.
    pub fn new(images: usize, quiet: bool) -> Self {
        let target = match quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(images as u64), target);
        let template = "{bar:30} {pos}/{len} images  {per_sec}  {eta} left";
        // The template is a constant; a default bar is better than no evaluation.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// One more image is finished.
    pub fn advance(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
