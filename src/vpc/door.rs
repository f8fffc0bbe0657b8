//! The fence of one attempt: asked each time bytes are about to leave.

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock;
use crate::decide::{Gate, Permit};
use crate::mutant::{self, Mutant};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What one attempt must pass. It closes for good when the attempt is over, so that no attempt
/// outlives its bound (FENCING.md, F-b), and it knows whether anything left.
#[derive(Debug)]
pub struct Door {
    permit: Permit,
    gate: Arc<Gate>,
    stage: Mutex<Stage>,
}

#[derive(Debug, Default)]
struct Stage {
    /// A part of the body was handed over.
    left: bool,
    /// The attempt has ended: nothing may leave any more.
    over: bool,
}

/// The attempt had ended before its bytes were asked for.
#[derive(Debug, thiserror::Error)]
#[error("the attempt is over")]
pub struct Over;

impl Door {
    pub fn new(permit: Permit, gate: Arc<Gate>) -> Self {
        Self { permit, gate, stage: Mutex::default() }
    }

    /// Asked as bytes are about to be handed over.
    pub fn pass(&self) -> Result<(), BoxError> {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if stage.over {
            return Err(Over.into());
        }
        if !mutant::on(Mutant::BodyCheck) {
            self.gate.check(&self.permit, clock::now())?;
        }
        stage.left = true;
        Ok(())
    }

    /// Ends the attempt. Says whether nothing left; then nothing ever will.
    pub fn shut(&self) -> bool {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        stage.over = true;
        !stage.left
    }
}
