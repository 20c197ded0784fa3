//! Messages are consumed and leave their queue when the target has them. Not here: their way there (`outflow`).

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};
use warren_client::{
    Connection, Consumer, ConsumerOptions, Delivery, Error, ErrorKind, QueueStats,
};

use super::Route;
use super::carry::{Times, carried};
use super::course::{Course, End};
use super::outflow::{Item, Outflow, WINDOW_BYTES};
use crate::exit::Failure;

/// How often a queue that gives nothing is asked whether it is empty.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// The consumer of a run that was killed is kept for it for 15 s.
const IN_USE_WITHIN: Duration = Duration::from_secs(40);
const TRY_EVERY: Duration = Duration::from_secs(1);
/// How long the last acknowledgements may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// Where messages are taken.
pub(super) struct Source {
    pub(super) connection: Connection,
    pub(super) vhost: String,
    pub(super) queue: String,
    pub(super) prefetch: u32,
    /// Beside other consumers.
    pub(super) is_shared: bool,
    /// An empty queue is waited at.
    pub(super) follows: bool,
    /// How long its nodes may say nothing.
    pub(super) give_up_after: Duration,
    pub(super) route: Route,
}

/// What a queue's figures say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Empty,
    Filled,
    /// Nothing: nobody answers.
    Silent,
}

/// Runs until the queue is empty, the limit is reached, or somebody wants it to end.
///
/// # Errors
/// The queue is another consumer's; a message was refused or has no outcome; the queue is gone. What the target had confirmed by then has
/// left the queue.
pub(super) async fn take(source: &Source, out: &mut Outflow, course: &mut Course) -> Result<End> {
    loop {
        let Some(mut consumer) = open(source, course).await? else {
            return Ok(End::Interrupted);
        };
        course.skipped = 0;
        let ended = flow(source, &mut consumer, out, course).await;
        let settled = course.settle_rest(out, Some(&consumer)).await;
        let closed = consumer.close(CLOSE_WITHIN).await;
        match ended {
            // Its node died, and its place was not free yet when it came back on another.
            Err(error) if is_in_use(error.downcast_ref()) => {}
            Err(error) => return Err(error),
            Ok(end) => {
                settled?;
                closed?;
                return Ok(end);
            }
        }
    }
}

async fn flow(
    source: &Source,
    consumer: &mut Consumer,
    out: &mut Outflow,
    course: &mut Course,
) -> Result<End> {
    let mut next: Option<Item> = None;
    let mut heard = Instant::now();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let takes = next.is_none();
        if takes && course.is_over() {
            return Ok(End::Limit);
        }
        let goes = next.as_ref().is_some_and(|it| out.takes(it));
        let looked_for = takes && out.is_idle();
        // What is settled makes room; what is there goes before more is taken.
        tokio::select! {
            biased;
            () = course.interrupt.wait() => return Ok(End::Interrupted),
            outcome = out.oldest(), if !out.is_idle() => {
                course.settle(out, Some(&*consumer), outcome?).await?;
            }
            () = sleep_until(course.pace.next().into()), if goes => {
                let Some(item) = next.take() else { continue };
                tokio::select! {
                    biased;
                    () = course.interrupt.wait() => return Ok(End::Interrupted),
                    sent = out.send(item) => sent?,
                }
                course.took();
            }
            delivery = consumer.next(), if takes => match delivery? {
                Some(delivery) => {
                    heard = Instant::now();
                    next = Some(item_of(source, delivery)?);
                }
                None => return Ok(End::Empty),
            },
            _ = looks.tick(), if looked_for => {
                let look = tokio::select! {
                    biased;
                    () = course.interrupt.wait() => return Ok(End::Interrupted),
                    look = look(source, course.skipped) => look?,
                };
                match look {
                    Look::Empty if !source.follows => return Ok(End::Empty),
                    Look::Empty | Look::Filled => heard = Instant::now(),
                    Look::Silent if heard.elapsed() > source.give_up_after => {
                        let what = "the source does not answer; the same command again goes on from here";
                        return Err(Failure::Unavailable(what.to_owned()).into());
                    }
                    Look::Silent => {}
                }
            }
        }
    }
}

/// `None`: interrupted.
async fn open(source: &Source, course: &mut Course) -> Result<Option<Consumer>> {
    let began = Instant::now();
    let mut is_said = false;
    loop {
        let opened = tokio::select! {
            biased;
            () = course.interrupt.wait() => return Ok(None),
            opened = source.connection.consume(options(source)) => opened,
        };
        match opened {
            Ok(consumer) => return Ok(Some(consumer)),
            Err(error) if !is_in_use(Some(&error)) => return Err(error.into()),
            Err(_) if began.elapsed() >= IN_USE_WITHIN || source.is_shared => {
                let what = format!(
                    "queue {} has a consumer: end it, or give --shared, which keeps no order",
                    source.queue
                );
                return Err(Failure::Precondition(what).into());
            }
            Err(_) if is_said => {}
            Err(_) => {
                is_said = true;
                eprintln!(
                    "queue {} has a consumer, perhaps of a run that was cut off: waiting until it is gone",
                    source.queue
                );
            }
        }
        tokio::select! {
            biased;
            () = course.interrupt.wait() => return Ok(None),
            () = sleep(TRY_EVERY) => {}
        }
    }
}

fn options(source: &Source) -> ConsumerOptions {
    ConsumerOptions {
        vhost: source.vhost.clone(),
        prefetch: source.prefetch,
        prefetch_bytes: u64::from(WINDOW_BYTES),
        // Others would take messages out of its middle, and what a run that was cut off still holds would be overtaken.
        exclusive: !source.is_shared,
        ..ConsumerOptions::queue(&source.queue)
    }
}

fn is_in_use(error: Option<&Error>) -> bool {
    error.and_then(Error::reason) == Some("IN_USE")
}

fn item_of(source: &Source, delivery: Delivery) -> Result<Item> {
    if delivery.position == 0 {
        let what = "the nodes do not tell the positions of messages: upgrade them first";
        return Err(Failure::Precondition(what.to_owned()).into());
    }
    let times = Times {
        now: SystemTime::now(),
        enqueued: delivery.enqueued_at,
        due: None,
    };
    Ok(Item {
        message: carried(delivery.message.clone(), times)?,
        target: source.route.target(&delivery.routing_key),
        position: delivery.position,
        was_out: delivery.redelivered || delivery.acquired_count > 0,
        delivery: Some(delivery),
    })
}

async fn look(source: &Source, skipped: u32) -> Result<Look> {
    let names = [source.queue.clone()];
    let stats = source.connection.queue_stats(&source.vhost, &names).await;
    let is_empty = |it: &QueueStats| {
        // With others, what they hold is theirs.
        it.ready == 0 && (source.is_shared || it.unacked <= u64::from(skipped))
    };
    match stats {
        Ok(list) => Ok(match list.first() {
            Some(it) if is_empty(it) => Look::Empty,
            Some(_) => Look::Filled,
            None => Look::Silent,
        }),
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
            Ok(Look::Silent)
        }
        Err(error) => Err(error.into()),
    }
}
