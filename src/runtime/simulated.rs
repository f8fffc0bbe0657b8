//! A virtual member: its tasks run on openraft's simulated runtime, one thread for the whole group, in
//! virtual time. Each has a clock of its own rate; it can be frozen, and killed between any two polls.
//!
//! ```text
//!   SimRuntime (true time, seeded) --polls--> InMember { host, task }
//!                                              | killed: the task is dropped
//!                                              | frozen: kept until it is thawed
//!                                              '-> task, with `host` as the current one
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_sim::{SimInstant, SimRuntime};
use rand::{Rng as _, SeedableRng as _};

use super::Elapsed;
use crate::model::{Time, WallMs};

thread_local! {
    static CURRENT: RefCell<Option<Host>> = const { RefCell::new(None) };
    /// Whether a member has done anything since somebody asked, and who waits for it.
    static STIRRED: Cell<bool> = const { Cell::new(false) };
    static WATCHER: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// What any member of this thread's simulation has done so far is seen.
pub fn all_is_seen() {
    STIRRED.set(false);
}

/// Returns as soon as a member has done something since [`all_is_seen`]. For one watcher.
pub async fn stirs() {
    poll_fn(|cx| {
        if STIRRED.get() {
            return Poll::Ready(());
        }
        WATCHER.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

fn stir() {
    if !STIRRED.replace(true)
        && let Some(watcher) = WATCHER.take()
    {
        watcher.wake();
    }
}

/// Some day in 2023: of no consequence.
const WALL_AT_START_MS: i64 = 1_700_000_000_000;

/// One life of one virtual member: from its start to its death. Cheap to clone.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    /// Parts per million by which its clock is fast.
    fast_ppm: i64,
    /// What its clock shows at true time zero.
    base: Duration,
    /// How far its wall clock was stepped.
    wall_ms: AtomicI64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    dead: bool,
    frozen: bool,
    waiting: Vec<Waker>,
}

impl Host {
    /// A living member whose clock showed `base` at true time zero and is fast by `fast_ppm`.
    pub fn new(fast_ppm: i64, base: Duration) -> Self {
        Self(Arc::new(Inner { fast_ppm, base, wall_ms: AtomicI64::new(0), state: Mutex::default() }))
    }

    /// The member whose task is being polled; `None` in the world around them.
    pub fn current() -> Option<Host> {
        CURRENT.with_borrow(Clone::clone)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every task of it is dropped, at its next poll at the latest.
    pub fn kill(&self) {
        self.wake_all(|state| state.dead = true);
    }

    /// No task of it is polled until [`thaw`](Self::thaw); its clock goes on.
    pub fn freeze(&self) {
        self.state().frozen = true;
    }

    pub fn thaw(&self) {
        self.wake_all(|state| state.frozen = false);
    }

    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub fn is_frozen(&self) -> bool {
        self.state().frozen
    }

    fn wake_all(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = self.state();
            change(&mut state);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Runs `task` as one of this member's.
    pub fn spawn<F>(&self, task: F) -> <SimRuntime as AsyncRuntime>::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        SimRuntime::spawn(InMember { host: self.clone(), task: Some(Box::pin(task)) })
    }

    /// What its clock shows.
    pub fn now(&self) -> Time {
        let passed = true_now();
        Time::from_nanos(nanos(self.0.base) + scale(nanos(passed), 1_000_000 + self.0.fast_ppm, 1_000_000))
    }

    /// Steps its wall clock.
    pub fn step_wall(&self, by_ms: i64) {
        self.0.wall_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// What its wall clock shows.
    pub fn wall(&self) -> WallMs {
        let shown = i64::try_from(true_now().as_millis()).unwrap_or(i64::MAX);
        let ms = WALL_AT_START_MS + shown + self.0.wall_ms.load(Ordering::Relaxed);
        WallMs(u64::try_from(ms).unwrap_or(0))
    }

    /// How long a span on its clock really is; rounded up, so that a timer is never early on it.
    pub fn truly(&self, span: Duration) -> Duration {
        Duration::from_nanos(scale(nanos(span), 1_000_000, 1_000_000 + self.0.fast_ppm).saturating_add(1))
    }

    fn enter(&self) -> Entered {
        Entered(CURRENT.replace(Some(self.clone())))
    }
}

/// Puts back who was current before.
struct Entered(Option<Host>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

fn scale(value: u64, by: i64, of: i64) -> u64 {
    let product = i128::from(value) * i128::from(by) / i128::from(of);
    u64::try_from(product).unwrap_or(u64::MAX)
}

/// True time since the simulation began; zero outside of one.
pub fn true_now() -> Duration {
    SimInstant::try_now().map_or(Duration::ZERO, SimInstant::elapsed_since_start)
}

struct InMember<F: Future> {
    host: Host,
    task: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for InMember<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { host, task } = &mut *self;
        let _entered = host.enter();
        stir();
        let dead = {
            let mut state = host.state();
            if state.frozen && !state.dead {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            state.dead
        };
        if dead {
            *task = None;
        }
        // The task of a dead member never ends: nobody is there to see it.
        task.as_mut().map_or(Poll::Pending, |task| task.as_mut().poll(cx))
    }
}

impl<F: Future> Drop for InMember<F> {
    fn drop(&mut self) {
        let _entered = self.host.enter();
        self.task = None;
    }
}

/// What openraft runs on: its own simulated runtime, as the current member sees it.
#[derive(Debug)]
pub enum Runtime {}

/// A moment on the current member's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Time);

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0 + rhs)
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(Time::from_nanos(self.0.as_nanos().saturating_sub(nanos(rhs))))
    }
}

impl SubAssign<Duration> for Moment {
    fn sub_assign(&mut self, rhs: Duration) {
        *self = *self - rhs;
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;
    fn sub(self, rhs: Moment) -> Duration {
        self.0.since(rhs.0)
    }
}

impl openraft_rt::Instant for Moment {
    fn now() -> Self {
        Self(crate::clock::now())
    }
}

fn true_span(span: Duration) -> Duration {
    // A sleep without end would overflow the virtual clock.
    let span = span.min(Duration::from_secs(86_400 * 365));
    Host::current().map_or(span, |host| host.truly(span))
}

impl AsyncRuntime for Runtime {
    type JoinError = <SimRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <SimRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <SimRuntime as AsyncRuntime>::Sleep;
    type Instant = Moment;
    type TimeoutError = <SimRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <SimRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <SimRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <SimRuntime as AsyncRuntime>::Mpsc;
    type Watch = <SimRuntime as AsyncRuntime>::Watch;
    type Oneshot = <SimRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <SimRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match Host::current() {
            Some(host) => host.spawn(future),
            None => SimRuntime::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        SimRuntime::sleep(true_span(duration))
    }

    fn sleep_until(deadline: Moment) -> Self::Sleep {
        Self::sleep(deadline.0.since(crate::clock::now()))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        SimRuntime::timeout(true_span(duration), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Moment,
        future: F,
    ) -> Self::Timeout<R, F> {
        Self::timeout(deadline.0.since(crate::clock::now()), future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        SimRuntime::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SimRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        let _ = threads;
        unreachable!("the simulation makes the runtime")
    }

    fn block_on<F, T>(&mut self, _: F) -> T
    where
        F: Future<Output = T>,
    {
        match *self {}
    }

    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = Result<T, std::io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        SimRuntime::spawn_blocking(work)
    }
}

/// Runs `task` as one of the current member's.
pub fn spawn<F>(task: F)
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    drop(Runtime::spawn(task));
}

/// Returns after `duration` on the current member's clock.
pub async fn sleep(duration: Duration) {
    Runtime::sleep(duration).await;
}

/// `work`'s outcome, if it has one within `duration` on the current member's clock.
pub async fn timeout<F: Future + Send>(duration: Duration, work: F) -> Result<F::Output, Elapsed> {
    Runtime::timeout(duration, work).await.map_err(|_| Elapsed)
}

/// Of the seeded stream.
pub fn random_u64() -> u64 {
    rand::rngs::SmallRng::from_rng(&mut SimRuntime::thread_rng()).next_u64()
}
