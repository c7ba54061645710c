//! Recipients on a real database. Mails of invitations are tested with the invitations.

use rowhouse_types::{InvitationId, TenantId, UserId};

use super::Addressee;
use super::actions::{invitation_mail, recipient};
use crate::error::Error;
use crate::tests::bench::{Bench, service_ctx};

#[tokio::test]
async fn a_member_is_written_to_and_nobody_else() {
    let bench = Bench::start("mail_recipient").await;
    let (house, neighbour) = (bench.house("acme").await, bench.house("globex").await);
    let member = Addressee {
        tenant: house.tenant,
        user: house.admin,
        platform: false,
    };
    let person = recipient(&service_ctx(), &bench.state, member).await.unwrap();
    assert_eq!((person.email, person.display_name.as_str()), (house.email, "Somebody"));
    let strangers = [
        Addressee {
            user: neighbour.admin,
            ..member
        },
        Addressee {
            user: UserId::generate(),
            ..member
        },
        Addressee {
            tenant: TenantId::generate(),
            ..member
        },
        Addressee {
            platform: true,
            ..member
        },
    ];
    for stranger in strangers {
        let refused = recipient(&service_ctx(), &bench.state, stranger).await;
        assert!(
            matches!(refused, Err(Error::NotFound { kind: "recipient", .. })),
            "{refused:?}"
        );
    }
    bench.execute("UPDATE auth.memberships SET state = 'disabled'").await;
    let refused = recipient(&service_ctx(), &bench.state, member).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn an_operator_who_acted_in_a_tenant_is_written_to() {
    let bench = Bench::start("mail_operator").await;
    let house = bench.house("acme").await;
    let password = bench.operator("root@rowhouse.example").await;
    let pair = bench.login("root@rowhouse.example", &password, None).await.unwrap();
    let operator = Addressee {
        tenant: house.tenant,
        user: pair.session.user,
        platform: true,
    };
    let person = recipient(&service_ctx(), &bench.state, operator).await.unwrap();
    assert_eq!(person.email, "root@rowhouse.example");
    let member = Addressee {
        platform: false,
        ..operator
    };
    assert!(
        recipient(&service_ctx(), &bench.state, member).await.is_err(),
        "an operator is no member"
    );
}

#[tokio::test]
async fn an_unknown_invitation_has_no_mail() {
    let bench = Bench::start("mail_unknown").await;
    let missing = invitation_mail(&service_ctx(), &bench.state, InvitationId::generate()).await;
    assert!(matches!(missing, Err(Error::NotFound { kind: "invitation", .. })));
}
