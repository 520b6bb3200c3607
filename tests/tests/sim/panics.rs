//! Panics of simulated parts. A runtime swallows those of its tasks; here each is a failure of the seed.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

static HOOK: Once = Once::new();

/// Watches this thread: a simulation runs on one.
#[derive(Debug)]
pub(crate) struct Panics(());

pub(crate) fn watch() -> Panics {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            SEEN.with_borrow_mut(|seen| seen.push(format!("panic: {info}")));
            before(info);
        }));
    });
    SEEN.take();
    Panics(())
}

impl Panics {
    pub(crate) fn seen(&self) -> Vec<String> {
        SEEN.take()
    }
}
