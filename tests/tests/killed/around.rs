//! Clients and accounts around a kill: what each case leaves behind at the process that survives.

use crate::scene::{Role, Scene, killed};
use tidegate_tests::wait_until;

/// Nothing of a dead peer stays for ever: no copy, no frozen session, no connection that nobody holds.
#[tokio::test]
async fn the_survivor_of_a_kill_is_left_with_its_own_sessions_and_nothing_else() {
    for (role, armed) in [
        (Role::Predecessor, "after_snapshot_said:kill@2"),
        (Role::Predecessor, "before_committed_said:kill@2"),
        (Role::Successor, "before_held_said:kill@2"),
        (Role::Successor, "gone_live:kill@2"),
    ] {
        let scene = Scene::start(role, armed, "1s").await;
        scene.drain(6_000).await;
        killed(armed, scene.of(role)).await;
        let survivor = match role {
            Role::Predecessor => &scene.pair.b,
            Role::Successor => &scene.pair.a,
        };
        scene.pair.door.refuse();
        if role == Role::Predecessor {
            scene.pair.door.retarget(&[survivor.public]);
            scene.pair.door.heal();
        }
        scene.serve_by(&[survivor]);
        if role == Role::Successor {
            scene.drained().await;
        }
        let sessions = scene.sessions() as usize;
        wait_until("every client has a session of its own at the survivor", || async {
            let attached = survivor.in_phase("attached").await.len();
            let frozen = survivor.in_phase("frozen").await.len();
            if (attached, frozen) == (sessions, 0) {
                Ok(())
            } else {
                Err(format!("{attached} attached, {frozen} frozen"))
            }
        })
        .await;
        scene.close(armed).await;
    }
}
