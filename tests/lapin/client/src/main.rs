//! Unmodified lapin programs against running nodes: what the AMQP tutorials do, and one that outlives the loss of a node.
//!
//!     cargo run -- --port 5672[,5673,5674] [--failover]
//!
//! With several ports, publishers and consumers connect to different nodes. With --failover it says READY when it is under way, and
//! judges what it saw at the end. The last line says how many passed.

mod failover;
mod nodes;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use failover::failover;
use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, ExchangeKind};
use nodes::{Nodes, Result, WAIT, consume, declare, delete, ensure, next, persistent, publish};
use tokio::time::timeout;

async fn hello_world(nodes: &Nodes) -> Result<()> {
    let (sending, receiving) = (nodes.channel(0).await?, nodes.channel(1).await?);
    let queue = nodes.name("hello");
    declare(&sending, &queue).await?;
    let mut consumer = consume(&receiving, &queue, true).await?;
    publish(&sending, "", &queue, b"Hello World!").await?;
    ensure!(
        next(&mut consumer).await?.data == b"Hello World!",
        "another message"
    );
    delete(&sending, &queue).await
}

async fn work_queue_is_shared_by_two_workers_with_prefetch_1(nodes: &Nodes) -> Result<()> {
    let sending = nodes.channel(0).await?;
    sending
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let queue = nodes.name("tasks");
    declare(&sending, &queue).await?;
    let mut workers = Vec::new();
    for node in 1..3 {
        let channel = nodes.channel(node).await?;
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let mut consumer = consume(&channel, &queue, false).await?;
        workers.push(tokio::spawn(async move {
            let mut got = Vec::new();
            while let Ok(Some(Ok(delivery))) =
                timeout(Duration::from_secs(3), consumer.next()).await
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
                got.push((delivery.data.clone(), delivery.redelivered));
                delivery.ack(BasicAckOptions::default()).await.ok();
            }
            got
        }));
    }
    for number in 0..40 {
        publish(&sending, "", &queue, number.to_string().as_bytes()).await?;
    }
    let (one, two) = (workers.remove(0).await?, workers.remove(0).await?);
    ensure!(
        one.len() + two.len() == 40,
        "{} and {}",
        one.len(),
        two.len()
    );
    ensure!(
        one.len() > 5 && two.len() > 5,
        "{} and {}",
        one.len(),
        two.len()
    );
    ensure!(
        one.iter().chain(&two).all(|(_, redelivered)| !redelivered),
        "flagged as redelivered"
    );
    delete(&sending, &queue).await
}

async fn tasks_of_a_worker_that_dies_go_to_another(nodes: &Nodes) -> Result<()> {
    let sending = nodes.channel(0).await?;
    sending
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let queue = nodes.name("dying");
    declare(&sending, &queue).await?;
    for number in 0..10 {
        publish(&sending, "", &queue, number.to_string().as_bytes()).await?;
    }
    let dying = nodes.channel(2).await?;
    dying.basic_qos(4, BasicQosOptions::default()).await?;
    let mut consumer = consume(&dying, &queue, false).await?;
    let mut held = HashSet::new();
    for _ in 0..4 {
        held.insert(next(&mut consumer).await?.data);
    }
    dying.close(200, "gone".into()).await?;
    let living = nodes.channel(1).await?;
    let mut consumer = consume(&living, &queue, false).await?;
    for _ in 0..10 {
        let delivery = next(&mut consumer).await?;
        ensure!(
            delivery.redelivered == held.contains(&delivery.data),
            "wrong flag of {:?}",
            delivery.data
        );
        delivery.ack(BasicAckOptions::default()).await?;
    }
    delete(&sending, &queue).await
}

async fn private_queue(channel: &Channel) -> Result<String> {
    let options = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let queue = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await?;
    Ok(queue.name().to_string())
}

async fn routed(
    nodes: &Nodes,
    kind: ExchangeKind,
    bindings: &[&str],
    keys: &[&str],
    expected: &[&str],
) -> Result<()> {
    let (sending, receiving) = (nodes.channel(0).await?, nodes.channel(1).await?);
    sending
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let exchange = nodes.name(&format!("{kind:?}"));
    let options = ExchangeDeclareOptions::default();
    sending
        .exchange_declare(
            exchange.as_str().into(),
            kind,
            options,
            FieldTable::default(),
        )
        .await?;
    let queue = private_queue(&receiving).await?;
    for key in bindings {
        let options = QueueBindOptions::default();
        receiving
            .queue_bind(
                queue.as_str().into(),
                exchange.as_str().into(),
                (*key).into(),
                options,
                FieldTable::default(),
            )
            .await?;
    }
    let mut consumer = consume(&receiving, &queue, true).await?;
    for key in keys {
        publish(&sending, &exchange, key, key.as_bytes()).await?;
    }
    for key in expected {
        let delivery = next(&mut consumer).await?;
        ensure!(
            delivery.routing_key.as_str() == *key,
            "{} came, not {key}",
            delivery.routing_key
        );
    }
    sending
        .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
        .await?;
    Ok(())
}

async fn publish_subscribe(nodes: &Nodes) -> Result<()> {
    routed(nodes, ExchangeKind::Fanout, &[""], &["a", "b"], &["a", "b"]).await
}

async fn routing(nodes: &Nodes) -> Result<()> {
    routed(
        nodes,
        ExchangeKind::Direct,
        &["error"],
        &["info", "error"],
        &["error"],
    )
    .await
}

async fn ask(nodes: &Nodes, direct: bool) -> Result<()> {
    let (asking, serving) = (nodes.channel(0).await?, nodes.channel(1).await?);
    let requests = nodes.name(if direct { "direct" } else { "rpc" });
    declare(&serving, &requests).await?;
    let mut consumer = consume(&serving, &requests, false).await?;
    let server = tokio::spawn(async move {
        while let Some(Ok(request)) = consumer.next().await {
            let reply_to = request.properties.reply_to().clone().unwrap_or_default();
            let id = request
                .properties
                .correlation_id()
                .clone()
                .unwrap_or_default();
            let number: u64 = String::from_utf8_lossy(&request.data)
                .parse()
                .unwrap_or_default();
            let properties = BasicProperties::default().with_correlation_id(id);
            let answer = (number * 2).to_string();
            let options = BasicPublishOptions::default();
            serving
                .basic_publish("".into(), reply_to, options, answer.as_bytes(), properties)
                .await
                .ok();
            request.ack(BasicAckOptions::default()).await.ok();
        }
    });
    let replies = if direct {
        "amq.rabbitmq.reply-to".to_owned()
    } else {
        private_queue(&asking).await?
    };
    let mut answers = consume(&asking, &replies, true).await?;
    for number in 0..20u64 {
        let properties = BasicProperties::default()
            .with_reply_to(replies.as_str().into())
            .with_correlation_id(number.to_string().into());
        let body = number.to_string();
        let options = BasicPublishOptions::default();
        asking
            .basic_publish(
                "".into(),
                requests.as_str().into(),
                options,
                body.as_bytes(),
                properties,
            )
            .await?;
        let answer = next(&mut answers).await?;
        ensure!(
            answer.data == (number * 2).to_string().as_bytes(),
            "{:?} for {number}",
            answer.data
        );
    }
    server.abort();
    delete(&asking, &requests).await
}

async fn rpc(nodes: &Nodes) -> Result<()> {
    ask(nodes, false).await
}

async fn rpc_by_direct_reply(nodes: &Nodes) -> Result<()> {
    ask(nodes, true).await
}

async fn publisher_confirms(nodes: &Nodes) -> Result<()> {
    let channel = nodes.channel(1).await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let queue = nodes.name("confirms");
    declare(&channel, &queue).await?;
    publish(&channel, "", &queue, b"single").await?;
    let mut confirms = Vec::new();
    for number in 0..500 {
        let body = number.to_string();
        let options = BasicPublishOptions::default();
        confirms.push(
            channel
                .basic_publish(
                    "".into(),
                    queue.as_str().into(),
                    options,
                    body.as_bytes(),
                    persistent(),
                )
                .await?,
        );
    }
    for confirm in confirms {
        ensure!(
            matches!(timeout(WAIT, confirm).await??, Confirmation::Ack(_)),
            "not confirmed"
        );
    }
    ensure!(declare(&channel, &queue).await? == 501, "not all are there");
    let options = BasicGetOptions { no_ack: true };
    let first = channel.basic_get(queue.as_str().into(), options).await?;
    ensure!(
        first.is_some_and(|it| it.data == b"single"),
        "the first is another"
    );
    delete(&channel, &queue).await
}

async fn unroutable_mandatory_message_comes_back_with_its_confirm(nodes: &Nodes) -> Result<()> {
    let channel = nodes.channel(2).await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let nowhere = nodes.name("nowhere");
    let confirm = channel
        .basic_publish(
            "".into(),
            nowhere.as_str().into(),
            options,
            b"back",
            persistent(),
        )
        .await?;
    match timeout(WAIT, confirm).await?? {
        Confirmation::Ack(Some(returned)) => {
            ensure!(returned.reply_code == 312, "{}", returned.reply_code)
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

async fn cancelled_consumer_keeps_what_it_holds(nodes: &Nodes) -> Result<()> {
    let channel = nodes.channel(0).await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let queue = nodes.name("cancelled");
    declare(&channel, &queue).await?;
    publish(&channel, "", &queue, b"x").await?;
    let mut consumer = consume(&channel, &queue, false).await?;
    let held = next(&mut consumer).await?;
    let tag = consumer.tag();
    channel
        .basic_cancel(tag, BasicCancelOptions::default())
        .await?;
    held.ack(BasicAckOptions::default()).await?;
    ensure!(
        declare(&channel, &queue).await? == 0,
        "the message is there again"
    );
    delete(&channel, &queue).await
}

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|it| it != name).nth(1)
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let nodes = Nodes {
        ports: option("--port")
            .unwrap_or("5672".to_owned())
            .split(',')
            .map(str::to_owned)
            .collect(),
        run: since.as_nanos(),
    };
    let (mut passed, mut failed) = (0, 0);
    macro_rules! run {
        ($($program:ident),+ $(,)?) => { $(
            let began = Instant::now();
            match $program(&nodes).await {
                Ok(()) => {
                    passed += 1;
                    println!("ok     {} ({:.2} s)", stringify!($program), began.elapsed().as_secs_f64());
                }
                Err(error) => {
                    failed += 1;
                    println!("FAILED {}: {error}", stringify!($program));
                }
            }
        )+ };
    }
    if std::env::args().any(|it| it == "--failover") {
        run!(failover);
    } else {
        run!(
            hello_world,
            work_queue_is_shared_by_two_workers_with_prefetch_1,
            tasks_of_a_worker_that_dies_go_to_another,
            publish_subscribe,
            routing,
            rpc,
            rpc_by_direct_reply,
            publisher_confirms,
            unroutable_mandatory_message_comes_back_with_its_confirm,
            cancelled_consumer_keeps_what_it_holds,
        );
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 {
        std::process::ExitCode::SUCCESS
    } else {
        std::process::ExitCode::FAILURE
    }
}
