//! Crashes and faults at every call that changes the disk: one function an operation, whichever module it is in.
//!
//! `crash` does the operation once while the double of the disk takes note, and then, for every call there was, opens what
//! a crash right behind it may leave. `fault` does it again for every call there is, which is refused. Both ask for the
//! old or the new state, whole, and for a next run that gets to the new one and leaves nothing else behind.

mod changes;
mod datasets;
mod files;
mod image;
mod models;
mod seam;
mod sweeps;
mod trial;
