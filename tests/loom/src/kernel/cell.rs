//! A model of memory in the place of `src/model/kernel/cell.rs`: each number that the kernel reaches by its address is
//! an atomic of loom's, which may yield any value that the memory model allows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loom::sync::atomic::{AtomicU32, Ordering};

/// The memory of one execution, by address.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<HashMap<usize, Arc<AtomicU32>>>>);

std::thread_local! {
    // Loom runs all threads of a model on one thread of the system, one after the other.
    static MEMORY: Memory = Memory::default();
}

impl Memory {
    /// Forgets everything, and makes a cell for each float of `row`, holding its value.
    pub(crate) fn begin(row: &[f32]) {
        MEMORY.with(|memory| {
            let mut cells = memory.lock();
            cells.clear();
            for float in row {
                let cell = Arc::new(AtomicU32::new(float.to_bits()));
                cells.insert(std::ptr::from_ref(float).addr(), cell);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Arc<AtomicU32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cell at `address`. The map is free again before loom is given the chance to switch threads.
    fn cell(address: usize) -> Arc<AtomicU32> {
        MEMORY.with(|memory| memory.lock().get(&address).cloned()).expect("an address of the row")
    }
}

pub(crate) unsafe fn load(at: *const f32) -> f32 {
    f32::from_bits(Memory::cell(at.addr()).load(Ordering::Relaxed))
}

pub(crate) unsafe fn store(at: *mut f32, value: f32) {
    Memory::cell(at.addr()).store(value.to_bits(), Ordering::Relaxed);
}

pub(super) unsafe fn load_half(at: *const u16) -> u16 {
    Memory::cell(at.addr()).load(Ordering::Relaxed) as u16
}

pub(super) unsafe fn store_half(at: *mut u16, half: u16) {
    Memory::cell(at.addr()).store(u32::from(half), Ordering::Relaxed);
}
