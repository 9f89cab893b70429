//! What people look at: a result as a page, two results side by side, a run as it goes.
//!
//! * [`page`] — one self-contained HTML page of a result: headline, plots, every figure.
//! * [`plots`] — which plots a result has; [`plot`] and [`axes`] draw them.
//! * [`story`] — a result in sentences: who met whom, was it clean, what did it cost.
//! * [`summary`] — what the terminal shows of a result in the end.
//! * [`compare`] — two results, in the terminal and as a page.
//! * [`versus`] — our server and another one as a page; [`bars`] draws its bars.
//! * [`progress`] — the line in the terminal while a scenario runs.
//! * [`figures`], [`text`] — a result as a list, and how figures are written.
#![forbid(unsafe_code)]

pub mod axes;
pub mod bars;
pub mod compare;
pub mod figures;
#[cfg(test)]
mod fixture;
pub mod page;
pub mod plot;
pub mod plots;
pub mod progress;
pub mod story;
pub mod summary;
pub mod text;
pub mod versus;
