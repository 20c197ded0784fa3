//! A program that outlives the loss of a node. Not here: who takes the node away.

use std::collections::HashMap;
use std::time::Duration;

use futures_lite::StreamExt;
use lapin::Confirmation;
use lapin::options::{BasicAckOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions};
use tokio::time::timeout;

use crate::nodes::{Nodes, Result, consume, declare, delete, ensure, persistent};

/// One publisher and consumers on one node, while another node, which leads some of the queues, is lost.
pub(crate) async fn failover(nodes: &Nodes) -> Result<()> {
    const QUEUES: usize = 6;
    const MESSAGES: usize = 2_000;
    let connection = nodes.connect(0).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    channel.basic_qos(10, BasicQosOptions::default()).await?;
    let queues: Vec<String> = (0..QUEUES)
        .map(|it| nodes.name(&format!("failover.{it}")))
        .collect();
    let (said, mut heard) = tokio::sync::mpsc::channel(MESSAGES);
    for queue in &queues {
        declare(&channel, queue).await?;
        let mut consumer = consume(&channel, queue, false).await?;
        let said = said.clone();
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                let body = String::from_utf8_lossy(&delivery.data).into_owned();
                said.send((body, delivery.redelivered)).await.ok();
                delivery.ack(BasicAckOptions::default()).await.ok();
            }
        });
    }
    let mut confirms = Vec::new();
    for number in 0..MESSAGES {
        let (queue, body) = (&queues[number % QUEUES], number.to_string());
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
        if number == 200 {
            println!("READY");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for confirm in confirms {
        let outcome = timeout(Duration::from_secs(60), confirm).await??;
        ensure!(
            matches!(outcome, Confirmation::Ack(_)),
            "not confirmed: {outcome:?}"
        );
    }
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut doubled = 0;
    while seen.len() < MESSAGES {
        let Some((body, redelivered)) = timeout(Duration::from_secs(60), heard.recv()).await?
        else {
            return Err("all consumers ended".into());
        };
        let times = seen.entry(body).or_default();
        *times += 1;
        doubled += u32::from(*times > 1 && !redelivered);
    }
    ensure!(doubled == 0, "{doubled} came twice without a flag");
    ensure!(connection.status().connected(), "the connection is gone");
    for queue in &queues {
        delete(&channel, queue).await?;
    }
    Ok(())
}
