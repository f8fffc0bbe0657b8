//! What the judgement promises, one test a promise, in virtual time. Every step of every test also
//! passes `invariants`.

mod address;
mod claiming;
mod configured;
mod doubting;
mod ended;
mod failback;
mod fence;
mod invariants;
mod membership;
mod orders;
mod random;
mod reaching;
mod recall;
mod rehearsing;
mod repairing;
mod settling;
mod standing;
mod swapping;
mod switchover;
mod words;
mod world;
