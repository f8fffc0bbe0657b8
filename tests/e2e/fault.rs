//! vipd-faults: the same vipd with its fault points (src/fault.rs). Each member's are armed by files in
//! `MEMBER/faults`; what happened stands in `MEMBER/faults/hits`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::lab::{BOUND, Lab, holds, programs, until};

/// Something that really happened at a fault point.
#[derive(Clone, Debug, Deserialize)]
pub struct Hit {
    pub point: String,
    pub at_boot_ns: u64,
}

/// The program, if it is of this source: cargo, which does not know that this test runs it, has written beside it
/// what it was made of.
pub fn vipd_faults() -> PathBuf {
    let make = "cargo build --workspace --features vipd/fault-points --bin vipd-faults";
    let program = programs().join("vipd-faults");
    let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified());
    let built = modified(&program).unwrap_or_else(|_| panic!("{} is missing: {make}", program.display()));
    let parts = std::fs::read_to_string(program.with_extension("d")).unwrap();
    let sources: Vec<_> = parts.split_whitespace().skip(1).map(Path::new).collect();
    assert!(sources.len() > 40, "{parts}");
    for source in sources {
        assert!(modified(source).unwrap() <= built, "{} is newer than vipd-faults: {make}", source.display());
    }
    program
}

impl Lab {
    /// As `up`, with fault points.
    pub fn up_faulty(name: &str) -> Self {
        Self::up_with(name, &["--vipd", vipd_faults().to_str().unwrap()])
    }

    fn faults(&self, member: &str) -> PathBuf {
        self.dir.join(member).join("faults")
    }

    /// From now on `action` happens at this member's `point`.
    pub fn arm(&self, member: &str, point: &str, action: &str) {
        let (dir, draft) = (self.faults(member), self.faults(member).join(".draft"));
        std::fs::write(&draft, action).unwrap();
        std::fs::rename(draft, dir.join(point)).unwrap();
    }

    /// The point does nothing any more; who stands there goes on.
    pub fn release(&self, member: &str, point: &str) {
        std::fs::remove_file(self.faults(member).join(point)).unwrap();
    }

    pub fn hits(&self, member: &str, point: &str) -> Vec<Hit> {
        let text = std::fs::read_to_string(self.faults(member).join("hits")).unwrap_or_default();
        let all = text.lines().map(|line| serde_json::from_str::<Hit>(line).unwrap());
        all.filter(|hit| hit.point == point).collect()
    }

    /// Waits until the fault has happened: the `n`th record of it.
    pub fn hit(&self, member: &str, point: &str, n: usize) -> Hit {
        until(&format!("{member} comes to {point}"), BOUND, || {
            let hits = self.hits(member, point);
            hits.get(n - 1).cloned().ok_or_else(|| format!("{hits:?}"))
        })
    }

    /// Waits until the member's vipd has ended; by which signal.
    pub fn ends(&self, member: &str) -> u64 {
        until(&format!("the vipd of {member} ends"), BOUND, || {
            let status = self.json(&["status"]);
            let mut all = status["processes"].as_array().unwrap().iter();
            let vipd = all.find(|p| p["member"] == member && p["process"] == "vipd").unwrap();
            holds(vipd["running"] == false, || vipd.to_string())?;
            vipd["exit"]["signal"].as_u64().ok_or_else(|| vipd.to_string())
        })
    }
}
