//! Messages are consumed and leave their queue when the target has them. Not here: their way there (`outflow`).

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use tokio::time::{Interval, MissedTickBehavior, interval_at, sleep, sleep_until};
use warren_client::{Connection, Consumer, ConsumerOptions, Delivery, Error};

use super::Route;
use super::carry::{Times, carried};
use super::course::{Course, End};
use super::outflow::{Item, Outflow};
use super::quiet::{Look, Patience, Quiet, look};
use crate::exit::Failure;

/// How often a queue that gives nothing is asked whether it is empty.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// The consumer of a run that was killed is kept for it for 15 s.
const IN_USE_WITHIN: Duration = Duration::from_secs(40);
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Where messages are taken.
pub(super) struct Source {
    pub(super) connection: Connection,
    pub(super) vhost: String,
    pub(super) queue: String,
    pub(super) prefetch: u32,
    pub(super) prefetch_bytes: u64,
    pub(super) patience: Patience,
    pub(super) route: Route,
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
        course.begin();
        let ended = flow(source, &mut consumer, out, course).await;
        // Its node died, and its place was not free yet when it came back on another: what it held comes again, and is known.
        let is_lost = ended
            .as_ref()
            .is_err_and(|error| is_in_use(error.downcast_ref()));
        let settled = course
            .settle_rest(out, (!is_lost).then_some(&consumer))
            .await;
        let closed = course.close(consumer).await;
        if is_lost {
            settled?;
            if course.is_interrupted {
                return Ok(End::Interrupted);
            }
            continue;
        }
        let end = ended?;
        settled?;
        closed?;
        return Ok(end);
    }
}

async fn flow(
    source: &Source,
    consumer: &mut Consumer,
    out: &mut Outflow,
    course: &mut Course,
) -> Result<End> {
    let mut next: Option<Item> = None;
    let mut quiet = Quiet::new(Instant::now());
    let mut looks = looks();
    loop {
        if next.is_none() && course.is_over() {
            return Ok(End::Limit);
        }
        let takes = next.is_none() && course.acks.has_room();
        let goes = next.as_ref().is_some_and(|it| out.takes(it));
        let looked_for = next.is_none() && out.is_idle();
        let held = course.held();
        // What is settled makes room; what is there goes before more is taken.
        tokio::select! {
            biased;
            () = course.interrupt.wait() => return Ok(End::Interrupted),
            outcome = out.oldest(), if !out.is_idle() => {
                course.settle(out, Some(&*consumer), outcome?).await?;
            }
            result = course.acks.oldest(), if !course.acks.is_idle() => course.acks.settle(result)?,
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
                    quiet.came(Instant::now());
                    next = Some(item_of(source, delivery)?);
                }
                None => return Ok(End::Empty),
            },
            _ = looks.tick(), if looked_for => {
                let look = tokio::select! {
                    biased;
                    () = course.interrupt.wait() => return Ok(End::Interrupted),
                    look = look(source, held) => match look? {
                        // What is there is not taken yet.
                        Look::Empty if takes => Look::Empty,
                        Look::Empty | Look::Filled => Look::Filled,
                        Look::Silent => Look::Silent,
                    },
                };
                let now = Instant::now();
                if let Some(end) = quiet.looked(look, source.patience, held, now)? {
                    return Ok(end);
                }
            }
        }
    }
}

/// The first one after a while: what the queue has is on its way.
fn looks() -> Interval {
    let mut looks = interval_at(tokio::time::Instant::now() + LOOK_EVERY, LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
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
            Err(_) if began.elapsed() >= IN_USE_WITHIN || source.patience.is_shared => {
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
        prefetch_bytes: source.prefetch_bytes,
        // Others would take messages out of its middle, and what a run that was cut off still holds would be overtaken.
        exclusive: !source.patience.is_shared,
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
