//! Counting what an agent does, within bounds, for whoever looks.
//!
//! A [`Registry`] holds series by name. Whoever counts asks it once for a handle ([`Counter`], [`Sample`]) and keeps that: counting is then
//! a short lock and allocates nothing. What only has to be looked at, such as how many members there are, is looked at when somebody
//! asks, by a collector ([`Registry::collect`]). A [`Report`] has everything: sums over intervals of ten seconds, as dashboards of push
//! systems want them, and totals and quantiles, as those of pull systems do.

#![forbid(unsafe_code)]

mod quantiles;
mod registry;
mod report;
mod series;

pub use registry::{Counter, Gauges, Registry, SERIES_MAX, Sample};
pub use report::{Gauge, Labels, Quantile, Report, Series, Summary, Total};
pub use series::INTERVAL;
