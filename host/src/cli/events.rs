//! Implements `isopod events`: maps its subcommands to their files. Never implements a subcommand.

mod send;
pub(super) mod stored;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::target::Target;

const EXAMPLES: &str = "\
Examples:
  isopod events                                    the newest stored events
  isopod events --state running --type order       only those of a state and type
  isopod events show 42                            one event: its state, and why
  isopod events cancel 42                          cancels a waiting event
  isopod events send order --data @order.json      sends an event and prints the reply
  isopod events send order --no-wait               stores an event and prints its state
  isopod events send order --delay 10m             stores an event that is due in ten minutes";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EventsArgs {
    #[command(subcommand)]
    command: Option<EventsCommand>,
    /// The options of the list, without a subcommand.
    #[command(flatten)]
    list: stored::ListArgs,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand, Debug)]
enum EventsCommand {
    /// Send one event: show the reply, or the state of the stored event
    Send(send::SendArgs),
    /// List stored events, newest first
    List(stored::ListArgs),
    /// Show one stored event
    Show(stored::OneArgs),
    /// Cancel an event that waits for its delivery
    Cancel(stored::OneArgs),
}

pub(crate) fn run(args: &EventsArgs) -> Result<(), Failure> {
    let target = &args.target;
    match &args.command {
        None => stored::list(&target.look()?, &args.list),
        Some(_) if args.list != stored::ListArgs::default() => Err(stored::misplaced_options("events")),
        Some(EventsCommand::Send(args)) => send::run(&target.look()?, args),
        Some(EventsCommand::List(args)) => stored::list(&target.look()?, args),
        Some(EventsCommand::Show(args)) => stored::show(&target.look()?, args),
        Some(EventsCommand::Cancel(args)) => stored::cancel(&target.change()?, args),
    }
}
