//! The thread that speaks to the host for `isopod dev`: pushes and build errors, one after the other, so that the session
//! never waits for the network.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use super::Happening;
use super::push::Pusher;
use crate::cli::failure::Failure;
use crate::cli::limits;
use crate::cli::project::Project;

/// What the host is to be told.
enum Job {
    Push { project: Box<Project>, seen_at: Instant },
    ShowError(String),
    ClearError,
}

/// Takes jobs for the host.
pub(crate) struct Courier {
    jobs: SyncSender<Job>,
}

impl Courier {
    /// Starts the thread; it ends when this handle is dropped.
    pub(crate) fn start(pusher: Pusher, happenings: SyncSender<Happening>) -> Courier {
        let (jobs, receiver) = sync_channel(limits::JOBS_WAITING_MAX);
        std::thread::spawn(move || work(pusher, &receiver, &happenings));
        Courier { jobs }
    }

    /// Sends the component; the answer comes as [`Happening::Pushed`].
    pub(crate) fn push(&self, project: &Project, seen_at: Instant) -> Result<(), Failure> {
        self.give(Job::Push { project: Box::new(project.clone()), seen_at })
    }

    /// Shows a failed build to whoever looks at the app.
    pub(crate) fn show_error(&self, text: String) -> Result<(), Failure> {
        self.give(Job::ShowError(text))
    }

    /// Takes a shown build error away.
    pub(crate) fn clear_error(&self) -> Result<(), Failure> {
        self.give(Job::ClearError)
    }

    fn give(&self, job: Job) -> Result<(), Failure> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                Failure::new("the host has stopped answering").next("stop with Ctrl-C and start again")
            }
            TrySendError::Disconnected(_) => Failure::new("the connection to the host has ended").next("start again"),
        })
    }
}

fn work(mut pusher: Pusher, jobs: &Receiver<Job>, happenings: &SyncSender<Happening>) {
    for job in jobs {
        let told = match job {
            Job::Push { project, seen_at } => {
                if happenings.send(Happening::Pushed(pusher.push(&project, seen_at))).is_err() {
                    return;
                }
                Ok(())
            }
            Job::ShowError(text) => pusher.show_error(&text),
            Job::ClearError => pusher.clear_error(),
        };
        // The person sees the build's error in the terminal anyway; the browser just does not show it.
        if let Err(failure) = told {
            let _ = happenings.send(Happening::Say(format!("! the build error could not be shown: {failure}\n")));
        }
    }
}
