//! Kills a host repeatedly while clients send events to it, optionally with disk errors and power
//! failures. Then compares the data of the guest with the acknowledged events. The e2e test makes a
//! short run, `cargo xtask torture` a long one. Never chooses the faults: `torture_plan.rs` does.

use crate::{
    Ask, Host,
    limits::{TORTURE_DRAIN, TORTURE_READ_STEPS},
    outbox::{ask_to_store, event_of_steps, outbox},
    torture_plan::{FailingDisk, Hazards, Round},
    wait_for, wait_up_to,
};
use isopod_faults::Lost;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The app that receives the events, and the app to which its handler sends others.
const APPS: [&str; 2] = ["outbox", "audit"];

/// The folder with compiled code. Power failures spare it, since each loss would cost a
/// compilation.
const COMPILED: &str = "cache";

/// The number of different subjects.
const SUBJECTS: u64 = 20;

/// The parameters of a torture run.
#[derive(Debug, Clone, Copy)]
pub struct Torture {
    /// The number of kills.
    pub kills: u32,
    /// The seed of the faults and of the number of events between two kills.
    pub seed: u64,
    pub hazards: Hazards,
    /// The number of clients that send events concurrently.
    pub senders: usize,
    /// The time after which the host isn't killed again, except to reach `kills_min`.
    pub at_most: Duration,
    pub kills_min: u32,
    /// The largest number of acknowledged events between two kills.
    pub pause: u64,
}

/// The results of a torture run.
#[derive(Debug, Default)]
pub struct Survived {
    pub kills: u32,
    pub acknowledged: u64,
    /// The number of requests without a response, which were sent again.
    pub repeated: u64,
    /// The number of requests that were answered with a disk error, and sent again.
    pub refused: u64,
    /// The number of kills that were power failures.
    pub power_failures: u32,
    /// The number of the host's libc calls that failed.
    pub failed_calls: u64,
    /// The largest number of deliveries of one event.
    pub attempts: u64,
    /// The number of deliveries besides the first one of each event.
    pub redeliveries: u64,
    /// The number of events that were claimed at a kill, summed over all kills.
    pub interrupted: u64,
}

impl fmt::Display for Survived {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, power_failures, acknowledged, repeated, refused, failed_calls, .. } = self;
        let Self { attempts, redeliveries, interrupted, .. } = self;
        write!(
            out,
            "{kills} kills ({power_failures} power failures), {failed_calls} failed calls of the disk, {acknowledged} \
             acknowledged events, {repeated} requests without a response, {refused} refused, at most {attempts} \
             attempts of one event, {redeliveries} repeated deliveries, {interrupted} interrupted"
        )
    }
}

/// The state that the senders share.
#[derive(Default)]
struct Sending {
    /// The address of the API; `None` while the host is down.
    admin: Mutex<Option<SocketAddr>>,
    acknowledged: AtomicU64,
    /// The ids of these events, each with the number of kills before.
    ids: Mutex<BTreeMap<String, u32>>,
    kills: AtomicU32,
    repeated: AtomicU64,
    refused: AtomicU64,
    /// Whether disk errors are injected.
    may_refuse: bool,
    is_over: AtomicBool,
}

impl Sending {
    fn set_admin(&self, admin: Option<SocketAddr>) {
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner) = admin;
    }

    fn admin(&self) -> Option<SocketAddr> {
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for further acknowledged events.
    #[track_caller]
    fn until_acknowledged(&self, further: u64, when: &str) {
        let until = self.acknowledged.load(Ordering::Relaxed) + further;
        wait_for(&format!("{further} acknowledgements {when}"), || {
            (self.acknowledged.load(Ordering::Relaxed) >= until).then_some(())
        });
    }
}

impl Torture {
    /// Runs the torture, and prints a line for each kill.
    ///
    /// # Panics
    /// If an acknowledged event is lost, or was handled more than once.
    #[track_caller]
    pub fn run(self) -> Survived {
        println!("torture: {} kills, faults: {}, seed {}", self.kills, self.hazards, self.seed);
        let host = if self.hazards == Hazards::None { Host::start() } else { Host::start_with_faults("") };
        deploy(&host);
        let may_refuse = self.hazards.has_errors();
        let sending = Sending { may_refuse, ..Sending::default() };
        sending.set_admin(Some(host.admin));
        let token = host.token.clone();
        let (host, survived) = std::thread::scope(|scope| {
            // Ends the senders even if this thread panics.
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
        // The faults record each unsynced write, and this session may write for minutes.
        let host = host.restart_without_faults();
        // The handlers of the first app add events to the second.
        APPS.iter().for_each(|app| host.until_no_event_waits(app, TORTURE_DRAIN));
        let all = verify(&host, &sending.ids.into_inner().unwrap_or_else(PoisonError::into_inner));
        let attempts = all.iter().copied().max().unwrap_or(0);
        let redeliveries = all.iter().map(|attempts| attempts - 1).sum();
        let (repeated, refused) = (sending.repeated.into_inner(), sending.refused.into_inner());
        Survived { acknowledged, repeated, refused, attempts, redeliveries, ..survived }
    }

    fn kill_all(&self, mut host: Host, sending: &Sending) -> (Host, Survived) {
        let (began, mut random, mut survived) = (Instant::now(), self.seed, Survived::default());
        let may_continue = |kills: u32| kills < self.kills_min || began.elapsed() < self.at_most;
        while survived.kills < self.kills && may_continue(survived.kills) {
            let round = Round::choose(self.hazards, &mut random, self.pause);
            sending.until_acknowledged(round.acknowledged, "before a kill");
            if let Some(disk) = &round.disk {
                survived.failed_calls += fail(&host, disk, sending);
            }
            host.kill();
            sending.set_admin(None);
            survived.kills += 1;
            sending.kills.store(survived.kills, Ordering::Relaxed);
            let mut lost = Lost::default();
            if self.hazards != Hazards::None {
                host.faults().end_errors();
                lost = host.lose_unsynced(round.loss, &[COMPILED]);
                survived.power_failures += u32::from(round.loss.is_some());
            }
            survived.interrupted += APPS.iter().map(|app| host.leased_events(app)).sum::<u64>();
            let (kill, kills, acknowledged) =
                (survived.kills, self.kills, sending.acknowledged.load(Ordering::Relaxed));
            let elapsed = began.elapsed().as_secs();
            println!(
                "torture: kill {kill} of {kills} after {elapsed} s, {acknowledged} acknowledged; {round} ({} pages)",
                lost.pages
            );
            host = host.again();
            sending.set_admin(Some(host.admin));
        }
        (host, survived)
    }
}

/// Makes calls of a host fail, and ends the errors if the round requires it. Returns the number of
/// failed calls.
fn fail(host: &Host, disk: &FailingDisk, sending: &Sending) -> u64 {
    let (faults, before) = (host.faults(), host.faults().failed());
    faults.fail_some(disk.error, disk.per_million, disk.seed);
    wait_for("the disk errors", || (faults.failed() >= before + disk.failures).then_some(()));
    if let Some(further) = disk.then_acknowledged {
        faults.end_errors();
        sending.until_acknowledged(further, "after the errors, without a restart");
    }
    faults.failed() - before
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

/// Sends events one at a time, each repeatedly until it is acknowledged.
fn send_all(sending: &Sending, token: &str, sender: usize) {
    for number in 0_u64.. {
        if sending.is_over.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{sender}-{number}");
        let ask = event(&id, token);
        wait_up_to(TORTURE_DRAIN, "an acknowledgement", || {
            let Some(admin) = sending.admin() else {
                return sending.is_over.load(Ordering::Relaxed).then_some(());
            };
            match ask.send(admin) {
                Ok(answer) if answer.status == 202 => {
                    let kills = sending.kills.load(Ordering::Relaxed);
                    sending.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), kills);
                    sending.acknowledged.fetch_add(1, Ordering::Relaxed);
                    Some(())
                }
                // After a start, the app may not serve yet.
                Ok(answer) if [429, 503].contains(&answer.status) => None,
                Ok(answer) if sending.may_refuse && [500, 507].contains(&answer.status) => {
                    sending.refused.fetch_add(1, Ordering::Relaxed);
                    None
                }
                Ok(answer) => panic!("an event is refused: {answer}"),
                Err(_) => {
                    sending.repeated.fetch_add(1, Ordering::Relaxed);
                    None
                }
            }
        });
    }
}

/// Returns the request that sends the event with this id. The handler counts the event, and sends
/// an event to each of the two apps, which their handlers count.
fn event(id: &str, token: &str) -> Ask {
    let subject = subject_of(id);
    // A step that fails with a disk error must fail its event. Otherwise, the counters differ.
    let follow_up = json!([["strict"], ["increment", "followed"], ["increment", format!("followed-{id}")]]);
    let audited = json!([["strict"], ["increment", "audited"], ["increment", format!("audited-{id}")]]);
    let steps = json!([
        ["strict"],
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

/// Compares the events and values of both apps with the acknowledged events. Returns the number of
/// attempts of each event.
fn verify(host: &Host, acknowledged: &BTreeMap<String, u32>) -> Vec<u64> {
    let [of_outbox, of_audit] = APPS.map(|app| host.stored_events(app, ""));
    let all = || of_outbox.iter().chain(&of_audit);
    let unfinished: Vec<&Value> = all().filter(|event| event["state"] != "done").collect();
    assert!(unfinished.is_empty(), "{} events are not done, such as {}", unfinished.len(), unfinished[0]);
    let sent: Vec<&Value> = of_outbox.iter().filter(|event| event["source"] == "/test").collect();
    let ids: HashSet<&str> = sent.iter().filter_map(|event| event["id"].as_str()).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|(id, _)| !ids.contains(&***id)).collect();
    assert!(lost.is_empty(), "{} acknowledged events are lost, with the kills before: {lost:?}", lost.len());
    assert_eq!((sent.len(), ids.len()), (acknowledged.len(), acknowledged.len()), "each is stored once");
    let acknowledged = acknowledged.len() as u64;
    // The first app holds three events for each acknowledged event: the event itself, its
    // follow-up, and the event to forward.
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
    for entry in APPS.iter().flat_map(|app| host.activity(app)) {
        assert_ne!(entry["kind"], "data-damaged", "no file was damaged: {entry}");
    }
    all().map(|event| event["attempt"].as_u64().expect("a number of attempts")).collect()
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
