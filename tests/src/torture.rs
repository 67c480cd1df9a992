//! Kills a host again and again while clients send events to it, and then compares what the guest
//! has stored with the acknowledged events. The e2e test runs it shortly, `cargo xtask torture` for
//! long. Never injects a fault into the host: it only kills it.

use crate::{
    Ask, Host,
    limits::{TORTURE_DRAIN, TORTURE_READ_STEPS},
    outbox::{ask_to_store, event_of_steps, outbox},
    wait_for, wait_up_to,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The app that receives the events, and the app to which its handler sends others.
const APPS: [&str; 2] = ["outbox", "audit"];

/// The number of different subjects.
const SUBJECTS: u64 = 20;

/// How a host is tortured.
#[derive(Debug, Clone, Copy)]
pub struct Torture {
    /// The number of kills.
    pub kills: u32,
    /// Determines the events between two kills.
    pub seed: u64,
    /// The clients that send events at the same time.
    pub senders: usize,
    /// No further kill happens afterwards.
    pub at_most: Duration,
    /// The largest number of acknowledged events between two kills.
    pub pause: u64,
}

/// What a torture has shown.
#[derive(Debug, Default)]
pub struct Survived {
    pub kills: u32,
    pub acknowledged: u64,
    /// Requests without a response, which were sent again.
    pub repeated: u64,
    /// Deliveries of the event with the most.
    pub attempts: u64,
}

impl fmt::Display for Survived {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, acknowledged, repeated, attempts } = self;
        write!(
            out,
            "{kills} kills, {acknowledged} acknowledged events, {repeated} repeated requests, at most {attempts} \
             attempts of one event"
        )
    }
}

/// The state that the senders share.
#[derive(Default)]
struct Sending {
    /// The address of the API; `None` while the host is down.
    admin: Mutex<Option<SocketAddr>>,
    acknowledged: AtomicU64,
    repeated: AtomicU64,
    is_over: AtomicBool,
}

impl Sending {
    fn set_admin(&self, admin: Option<SocketAddr>) {
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner) = admin;
    }

    fn admin(&self) -> Option<SocketAddr> {
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Torture {
    /// Runs the torture, with a line for each kill.
    ///
    /// # Panics
    /// If an acknowledged event is lost, or was handled more than once.
    #[track_caller]
    pub fn run(self) -> Survived {
        println!("torture: {} kills, seed {}", self.kills, self.seed);
        let host = Host::start();
        deploy(&host);
        let sending = Sending::default();
        sending.set_admin(Some(host.admin));
        let token = host.token.clone();
        let (host, kills) = std::thread::scope(|scope| {
            // Ends the senders also if this thread panics.
            let ends = Ends(&sending);
            let (sending, token) = (&sending, &token);
            for sender in 0..self.senders {
                scope.spawn(move || send_all(sending, token, sender));
            }
            let tortured = self.kill_all(host, sending);
            drop(ends);
            tortured
        });
        let acknowledged = sending.acknowledged.into_inner();
        println!("torture: verifying {acknowledged} events");
        // The handlers of the first app add events to the second.
        APPS.iter().for_each(|app| host.until_no_event_waits(app, TORTURE_DRAIN));
        let attempts = verify(&host, acknowledged);
        Survived { kills, acknowledged, repeated: sending.repeated.into_inner(), attempts }
    }

    fn kill_all(&self, mut host: Host, sending: &Sending) -> (Host, u32) {
        let (began, mut random, mut kills) = (Instant::now(), self.seed, 0);
        while kills < self.kills && began.elapsed() < self.at_most {
            let until = sending.acknowledged.load(Ordering::Relaxed) + next(&mut random) % (self.pause + 1);
            wait_for("the acknowledgements before a kill", || {
                (sending.acknowledged.load(Ordering::Relaxed) >= until).then_some(())
            });
            host.kill();
            sending.set_admin(None);
            kills += 1;
            host = host.again();
            sending.set_admin(Some(host.admin));
            let acknowledged = sending.acknowledged.load(Ordering::Relaxed);
            println!("torture: kill {kills} of {}, {acknowledged} acknowledged", self.kills);
        }
        (host, kills)
    }
}

/// Ends the senders when it is dropped.
struct Ends<'a>(&'a Sending);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

fn deploy(host: &Host) {
    for app in APPS {
        host.create(app, "production");
        host.deploy(app, outbox(app, "", ""));
    }
}

/// Sends events one after the other. Each is sent again until it is acknowledged.
fn send_all(sending: &Sending, token: &str, sender: usize) {
    for number in 0_u64.. {
        if sending.is_over.load(Ordering::Relaxed) {
            return;
        }
        let ask = event(&format!("{sender}-{number}"), token);
        wait_up_to(TORTURE_DRAIN, "an acknowledgement", || {
            let Some(admin) = sending.admin() else {
                return sending.is_over.load(Ordering::Relaxed).then_some(());
            };
            match ask.send(admin) {
                Ok(answer) if answer.status == 202 => {
                    sending.acknowledged.fetch_add(1, Ordering::Relaxed);
                    Some(())
                }
                // The app may not serve yet after a start.
                Ok(answer) if [429, 503].contains(&answer.status) => None,
                Ok(answer) => panic!("an event is refused: {answer}"),
                Err(_) => {
                    sending.repeated.fetch_add(1, Ordering::Relaxed);
                    None
                }
            }
        });
    }
}

/// Returns the request that sends the event with this id. Its handler counts it, and sends an event
/// to each app, which is counted too.
fn event(id: &str, token: &str) -> Ask {
    let subject = subject_of(id);
    let follow_up = json!([["increment", "followed"], ["increment", format!("followed-{id}")]]);
    let audited = json!([["increment", "audited"], ["increment", format!("audited-{id}")]]);
    let steps = json!([
        ["increment", "total"],
        ["increment", format!("subject-{subject}")],
        ["increment", format!("handled-{id}")],
        ["emit", { "subject": format!("subject-{subject}"), "steps": follow_up }],
        ["emit", { "app": APPS[1], "steps": audited }],
    ]);
    let event = event_of_steps(id, Some(&format!("subject-{subject}")), &steps);
    ask_to_store(APPS[0], &event).header("authorization", format!("Bearer {token}"))
}

/// Returns the subject of the event with this id.
fn subject_of(id: &str) -> u64 {
    id.bytes().fold(0, |sum, byte| (sum * 31 + u64::from(byte)) % SUBJECTS)
}

/// Compares the events and values of both apps with the acknowledged events. Returns the largest
/// number of attempts.
fn verify(host: &Host, acknowledged: u64) -> u64 {
    let [of_outbox, of_audit] = APPS.map(|app| host.stored_events(app, ""));
    let all = || of_outbox.iter().chain(&of_audit);
    let unfinished: Vec<&Value> = all().filter(|event| event["state"] != "done").collect();
    assert!(unfinished.is_empty(), "{} events are not done, such as {}", unfinished.len(), unfinished[0]);
    let sent: Vec<&Value> = of_outbox.iter().filter(|event| event["source"] == "/test").collect();
    let ids: HashSet<&str> = sent.iter().filter_map(|event| event["id"].as_str()).collect();
    assert_eq!((sent.len() as u64, ids.len() as u64), (acknowledged, acknowledged), "the acknowledged events");
    // The first app holds three events for each: itself, its follow-up, and the one to forward.
    assert_eq!(of_outbox.len() as u64, 3 * acknowledged, "the events of {}", APPS[0]);
    assert_eq!(of_audit.len() as u64, acknowledged, "the events of {}", APPS[1]);

    let mut subjects = BTreeMap::new();
    for id in &ids {
        *subjects.entry(format!("subject-{}", subject_of(id))).or_insert(0_u64) += 1;
    }
    let of_each = |prefix: &str| ids.iter().map(|id| (format!("{prefix}-{id}"), 1)).collect::<Vec<_>>();
    let mut counts = vec![("total".to_owned(), acknowledged), ("followed".to_owned(), acknowledged)];
    counts.extend(subjects);
    counts.extend(of_each("handled").into_iter().chain(of_each("followed")));
    verify_counts(host, APPS[0], &counts);
    counts = of_each("audited");
    counts.push(("audited".to_owned(), acknowledged));
    verify_counts(host, APPS[1], &counts);
    all().filter_map(|event| event["attempt"].as_u64()).max().unwrap_or(0)
}

/// Asserts that these keys have these counts.
fn verify_counts(host: &Host, app: &str, counts: &[(String, u64)]) {
    for part in counts.chunks(TORTURE_READ_STEPS) {
        let found = host.values(app, part.iter().map(|(key, _)| &**key));
        for ((key, count), found) in part.iter().zip(found) {
            assert_eq!(found.as_str(), Some(&*count.to_string()), "{key} of {app}");
        }
    }
}

/// Returns the next number of a fixed sequence (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
