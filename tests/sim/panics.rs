//! A panic in a virtual member's task ends that task only, where the real daemon would end whole: it is
//! caught here, and fails the run.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static FIRST: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Forgets what was before, and watches from now on.
pub fn clear() {
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let simulated = vipd::runtime::simulated::Host::current().is_some();
            if simulated {
                FIRST.with_borrow_mut(|first| {
                    first.get_or_insert_with(|| info.to_string());
                });
            } else {
                usual(info);
            }
        }));
    });
    FIRST.set(None);
}

/// The first one since.
pub fn take() -> Option<String> {
    FIRST.take()
}
