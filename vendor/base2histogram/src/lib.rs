//! Stands in for the crate `base2histogram`: the names that openraft uses of it, which keep nothing.
//!
//! openraft records how large its batches are, in histograms that only its feature `runtime-stats` can show, which
//! vipd does not use. The first of them fills tables for sixteen resolutions: 26 MiB, of which one table is ever read.

#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

/// Takes values and forgets them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Histogram<T = ()>(PhantomData<T>);

impl<T> Histogram<T> {
    pub fn new() -> Self {
        Self(PhantomData)
    }

    pub fn record(&mut self, _value: u64) {}

    pub fn record_n(&mut self, _value: u64, _count: u64) {}

    /// Of no samples.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

/// Of no samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not kept")
    }
}

/// Draws nothing.
#[derive(Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    pub fn new() -> Self {
        Self
    }

    #[allow(clippy::should_implement_trait, reason = "the name is the real crate's")]
    pub fn add<T>(self, _name: &str, _histogram: Histogram<T>) -> Self {
        self
    }

    pub fn detailed(&self) -> &Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no histograms are kept")
    }
}
