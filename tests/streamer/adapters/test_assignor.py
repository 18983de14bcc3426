"""What a member claims to have as it joins the group, and what its leader makes of it."""

from types import SimpleNamespace

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription
from kafka.structs import ConsumerGroupMetadata

from streamer.adapters.kafka_python.assignor import ClaimingAssignor

TOPIC, PARTITIONS = "events", {0, 1, 2, 3}


def member(generation: int, assignor: CooperativeStickyAssignor) -> CooperativeStickyAssignor:
    """One that was given every partition, and is now in this generation of the group; below 0: in none."""
    if isinstance(assignor, ClaimingAssignor):
        assignor.membership = lambda: ConsumerGroupMetadata("group", generation_id=generation)
    assignor.on_assignment(ConsumerProtocolAssignment(1, [(TOPIC, sorted(PARTITIONS))], b""), 1)
    return assignor


def claims(assignor: CooperativeStickyAssignor) -> set[int]:
    """As they come out of the bytes that a join sends."""
    sent = ConsumerProtocolSubscription.decode(assignor.metadata({TOPIC}).encode())
    return {number for owned in sent.owned_partitions for number in owned.partitions}


def shared(*joining: CooperativeStickyAssignor) -> list[set[int]]:
    """Which partitions each of the joining members is given."""
    members = [
        SimpleNamespace(member_id=str(i), metadata=ConsumerProtocolSubscription.decode(m.metadata({TOPIC}).encode()))
        for i, m in enumerate(joining)
    ]
    cluster = SimpleNamespace(partitions_for_topic=lambda _: PARTITIONS, topics=lambda: {TOPIC})
    given = joining[0].assign(cluster, members)
    return [{n for _, numbers in given[m.member_id].assigned_partitions for n in numbers} for m in members]


def test_a_member_claims_what_it_has():
    assert claims(member(1, ClaimingAssignor())) == PARTITIONS


def test_a_member_that_the_group_has_dropped_claims_nothing():
    assert claims(member(-1, ClaimingAssignor())) == set()


def test_a_consumer_that_is_not_there_yet_claims_nothing():
    assert claims(ClaimingAssignor()) == set()


def test_what_an_heir_has_is_not_given_to_the_dropped_member_before_the_heir_let_go():
    heir, zombie = shared(member(2, ClaimingAssignor()), member(-1, ClaimingAssignor()))
    assert len(heir) == 2
    assert zombie == set()


def test_the_library_s_own_assignor_gives_a_partition_to_two():
    """Why there is ours; once this fails, the library has mended it."""
    _, zombie = shared(member(2, CooperativeStickyAssignor()), member(-1, CooperativeStickyAssignor()))
    assert zombie, "the heir has every one of them, and has not been asked back any"
