//! A redrive that a node does by itself: seen and steered from any node, sent once, whoever dies (features X6).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use warren_api::{Call, FIRST, message, queue_batch, reason_of, runtime};
use warren_client::{Connection, ConnectionOptions, Permission};
use warren_proto::admin_v1::{self, Operation, OperationState, RedriveRequest};
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

const MESSAGES: usize = 300;
const SECOND: NodeNumber = NodeNumber(2);
const THIRD: NodeNumber = NodeNumber(3);

/// A queue that holds messages, and one that they go to.
async fn queues(call: &Call) {
    call.declare("dead").await.unwrap();
    call.declare("repair").await.unwrap();
    let bodies: Vec<String> = (0..MESSAGES).map(|it| it.to_string()).collect();
    let messages = bodies.iter().map(|it| message(it));
    call.publish(queue_batch("dead", messages)).await.unwrap();
}

/// Forty a second: there is time to do something meanwhile.
fn slowly() -> RedriveRequest {
    RedriveRequest {
        queue: "dead".to_owned(),
        target_queue: "repair".to_owned(),
        messages_per_second: 40,
        background: true,
        ..RedriveRequest::default()
    }
}

async fn start(call: &Call, request: RedriveRequest) -> String {
    let answer = call.dead_letters().redrive(request).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!((answer.messages, answer.next_cursor.as_str()), (0, ""));
    answer.operation_id
}

async fn job(call: &Call, id: &str) -> Result<Operation, String> {
    let request = admin_v1::GetOperationRequest { id: id.to_owned() };
    let answer = call.operations().get_operation(request).await;
    let answer = answer.map_err(|error| reason_of(&error))?;
    Ok(answer.into_inner().operation.unwrap())
}

async fn pause(call: &Call, id: &str, resume: bool) -> OperationState {
    let request = admin_v1::PauseOperationRequest {
        id: id.to_owned(),
        resume,
    };
    let answer = call.operations().pause_operation(request).await.unwrap();
    answer.into_inner().operation.unwrap().state()
}

async fn list(call: &Call) -> admin_v1::ListOperationsResponse {
    let request = admin_v1::ListOperationsRequest::default();
    let answer = call.operations().list_operations(request).await;
    answer.unwrap().into_inner()
}

async fn until(call: &Call, id: &str, is_so: impl Fn(&Operation) -> bool) -> Operation {
    loop {
        let job = job(call, id).await.unwrap();
        if is_so(&job) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every message is in the second queue, once, and none is left.
async fn all_have_come(call: &Call) {
    while call.stats("repair").await.ready < MESSAGES as u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut bodies: Vec<usize> = Vec::new();
    for delivery in call.take("repair", MESSAGES).await {
        let body = delivery.message.unwrap().body;
        bodies.push(std::str::from_utf8(&body).unwrap().parse().unwrap());
    }
    bodies.sort_unstable();
    assert_eq!(bodies, (0..MESSAGES).collect::<Vec<_>>());
    for queue in ["dead", "repair"] {
        let stats = call.stats(queue).await;
        assert_eq!((stats.ready, stats.dead_lettering), (0, 0), "{queue}");
    }
}

#[test]
fn job_is_seen_held_and_let_go_on_through_any_node() {
    let cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let [first, second, third] =
            [FIRST, SECOND, THIRD].map(|it| Call::to(&cluster.grpc_address(it)));
        queues(&first).await;
        let request = RedriveRequest {
            request_id: "once".to_owned(),
            ..slowly()
        };
        let id = start(&first, request.clone()).await;
        assert_eq!(start(&second, request).await, id, "asked again");
        let listed = list(&second).await;
        assert_eq!(listed.silent_node_ids, Vec::<u64>::new());
        let ids: Vec<&str> = listed.operations.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, [id.as_str()]);
        assert_eq!(listed.operations[0].subject, "dead, to repair");
        assert_eq!(listed.operations[0].kind, "redrive");
        until(&second, &id, |it| it.done > 0).await;
        assert_eq!(pause(&third, &id, false).await, OperationState::Paused);
        // A page may be under way; then nothing more is sent.
        let mut held = job(&second, &id).await.unwrap().done;
        while call_until_same(&second, &id, &mut held).await {}
        assert!(held < MESSAGES as u64);
        assert_eq!(job(&second, &id).await.unwrap().done, held);
        while second.stats("repair").await.ready < held {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(second.stats("repair").await.ready, held);
        assert_eq!(pause(&second, &id, true).await, OperationState::Running);
        let ended = until(&third, &id, |it| it.ended_at.is_some()).await;
        assert_eq!(ended.state(), OperationState::Succeeded);
        assert_eq!((ended.done, ended.failed), (MESSAGES as u64, 0));
        all_have_come(&second).await;
    });
}

/// Whether a job that was held has sent more in the time of several pages.
async fn call_until_same(call: &Call, id: &str, done: &mut u64) -> bool {
    tokio::time::sleep(Duration::from_millis(400)).await;
    let now = job(call, id).await.unwrap().done;
    let moved = now != *done;
    *done = now;
    moved
}

#[test]
fn job_that_is_cancelled_leaves_the_rest_for_another() {
    let cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let [first, second] = [FIRST, SECOND].map(|it| Call::to(&cluster.grpc_address(it)));
        queues(&first).await;
        let id = start(&first, slowly()).await;
        until(&second, &id, |it| it.done > 0).await;
        let request = admin_v1::CancelOperationRequest { id: id.clone() };
        second.operations().cancel_operation(request).await.unwrap();
        let ended = until(&second, &id, |it| it.ended_at.is_some()).await;
        assert_eq!(ended.state(), OperationState::Cancelled);
        assert!(ended.done > 0 && ended.done < MESSAGES as u64, "{ended:?}");
        let rest = RedriveRequest {
            messages_per_second: 0,
            ..slowly()
        };
        let rest = start(&second, rest).await;
        let ended_too = until(&first, &rest, |it| it.ended_at.is_some()).await;
        assert_eq!(ended_too.state(), OperationState::Succeeded);
        assert_eq!(ended.done + ended_too.done, MESSAGES as u64);
        all_have_come(&first).await;
    });
}

#[test]
fn job_ends_with_its_node_and_another_sends_the_rest_once() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let [first, second] = [FIRST, SECOND].map(|it| Call::to(&cluster.grpc_address(it)));
        queues(&second).await;
        let id = start(&first, slowly()).await;
        until(&second, &id, |it| it.done > 0).await;
        cluster.kill(FIRST).unwrap();
        let told = job(&second, &id).await;
        assert_eq!(told, Err("Unavailable NOT_READY".to_owned()));
        assert_eq!(list(&second).await.silent_node_ids, [FIRST.0 as u64]);
        // Everything that is left, whoever leads now.
        let rest = RedriveRequest {
            messages_per_second: 0,
            ..slowly()
        };
        let rest = start(&second, rest).await;
        let ended = until(&second, &rest, |it| it.ended_at.is_some()).await;
        assert_eq!(ended.state(), OperationState::Succeeded);
        // What came back when its leader died is behind the job.
        while second.stats("repair").await.ready < MESSAGES as u64 {
            let again = start(
                &second,
                RedriveRequest {
                    messages_per_second: 0,
                    ..slowly()
                },
            )
            .await;
            until(&second, &again, |it| it.ended_at.is_some()).await;
        }
        all_have_come(&second).await;
        cluster.restart(FIRST).unwrap();
        cluster.wait_ready(FIRST).unwrap();
        let first = Call::to(&cluster.grpc_address(FIRST));
        for call in [&first, &second] {
            let told = job(call, &id).await;
            assert_eq!(told, Err("NotFound OPERATION_NOT_FOUND".to_owned()));
        }
    });
}

#[test]
fn job_that_cannot_be_is_refused_and_one_that_may_not_go_on_fails() {
    let cluster = warren_api::one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        queues(&call).await;
        for id in ["", "x", "1-1-1000", "9-1-1"] {
            let told = job(&call, id).await;
            assert_eq!(told, Err("NotFound OPERATION_NOT_FOUND".to_owned()), "{id}");
        }
        let both = RedriveRequest {
            dry_run: true,
            ..slowly()
        };
        let refused = call.dead_letters().redrive(both).await.unwrap_err();
        assert_eq!(reason_of(&refused), "InvalidArgument BAD_ARGUMENT");
        let id = start(&call, slowly()).await;
        until(&call, &id, |it| it.done > 0).await;
        let gone = admin_v1::DeleteQueueRequest {
            name: "dead".to_owned(),
            ..admin_v1::DeleteQueueRequest::default()
        };
        call.topology().delete_queue(gone).await.unwrap();
        let ended = until(&call, &id, |it| it.ended_at.is_some()).await;
        assert_eq!(ended.state(), OperationState::Failed);
        assert!(ended.error.unwrap().message.contains("dead"));
    });
}

#[test]
fn watched_job_is_told_until_it_has_ended() {
    let cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let [first, second] = [FIRST, SECOND].map(|it| Call::to(&cluster.grpc_address(it)));
        queues(&first).await;
        let id = start(&first, slowly()).await;
        let request = admin_v1::WatchOperationRequest { id: id.clone() };
        let watched = second.operations().watch_operation(request).await;
        let mut watched = watched.unwrap().into_inner();
        let mut told: Vec<Operation> = Vec::new();
        while let Some(change) = watched.message().await.unwrap() {
            let change = change.operation.unwrap();
            if told.is_empty() {
                pause(&first, &id, false).await;
            } else if change.state() == OperationState::Paused {
                pause(&first, &id, true).await;
            }
            told.push(change);
        }
        let states: Vec<OperationState> = told.iter().map(Operation::state).collect();
        assert_eq!(states.first(), Some(&OperationState::Running));
        assert!(states.contains(&OperationState::Paused), "{states:?}");
        assert_eq!(states.last(), Some(&OperationState::Succeeded));
        assert!(told.is_sorted_by_key(|it| it.done), "{told:?}");
        assert_eq!(told.last().unwrap().done, MESSAGES as u64);
        all_have_come(&second).await;
    });
}

/// The user is looked up again for each page; a job that is paused looks too, less often.
#[test]
fn job_of_a_user_who_may_no_longer_read_the_queue_fails() {
    let cluster = warren_api::one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        queues(&call).await;
        let servers = warren_client::parse_addresses(&cluster.servers_from(FIRST)).unwrap();
        let guest = Connection::new(&servers, ConnectionOptions::default()).unwrap();
        let password = "secret".to_owned();
        guest
            .create_user("clerk", Vec::new(), password)
            .await
            .unwrap();
        let rights = Permission {
            user: "clerk".to_owned(),
            vhost: "/".to_owned(),
            configure: String::new(),
            write: "^repair$".to_owned(),
            read: "^dead$".to_owned(),
        };
        guest.set_permission(&rights).await.unwrap();
        let mut command = cluster.warren();
        command.envs([("WARREN_LOGIN", "clerk"), ("WARREN_PASSWORD", "secret")]);
        command.args(["dlq", "redrive", "dead", "--to", "repair", "--rate", "40"]);
        command.args(["--detach", "--output", "json"]);
        command.args(["--server", &cluster.servers_from(FIRST)]);
        let started = run_within(command, Duration::from_secs(60)).unwrap();
        let started: serde_json::Value = serde_json::from_slice(&started.stdout).unwrap();
        let id = started["job"].as_str().unwrap();
        assert_eq!(job(&call, id).await.unwrap().started_by, "clerk");
        until(&call, id, |it| it.done > 0).await;
        let none = Permission {
            read: String::new(),
            ..rights
        };
        guest.set_permission(&none).await.unwrap();
        let ended = until(&call, id, |it| it.ended_at.is_some()).await;
        assert_eq!(ended.state(), OperationState::Failed);
        assert!(ended.done < MESSAGES as u64, "{ended:?}");
        let left = call.stats("dead").await.ready;
        assert_eq!(ended.done + left, MESSAGES as u64);
    });
}

#[test]
fn commands_start_hold_list_and_end_a_job() {
    let cluster = warren_api::one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        queues(&call).await;
        let json = |arguments: &[&str]| -> serde_json::Value {
            let arguments = [&["dlq"], arguments, &["--output", "json"]].concat();
            serde_json::from_str(&cluster.run(&arguments).unwrap()).unwrap()
        };
        let slowly = [
            "redrive", "dead", "--to", "repair", "--rate", "40", "--detach",
        ];
        let started = json(&slowly);
        assert_eq!(started["found"], MESSAGES);
        let id = started["job"].as_str().unwrap();
        assert_eq!(json(&["pause", id])["state"], "paused");
        let listed = json(&["jobs"]);
        assert_eq!(listed["jobs"][0]["id"], id);
        assert_eq!(listed["jobs"][0]["state"], "paused");
        assert_eq!(json(&["resume", id])["state"], "running");
        json(&["cancel", id]);
        until(&call, id, |it| it.ended_at.is_some()).await;
        assert_eq!(json(&["jobs"])["jobs"][0]["state"], "cancelled");
        let rest = json(&[
            "redrive",
            "dead",
            "--to",
            "repair",
            "--filter",
            "position > 0",
        ]);
        assert_eq!(rest["found"], rest["redriven"]);
        all_have_come(&call).await;
    });
}
