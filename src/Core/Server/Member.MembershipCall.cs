// Member.MembershipCall: one change of the cluster as explicit steps: it is moved on by whoever drives it, and says what it
// waits for. Callers of the public methods await between the steps; the simulator polls, so that no step of the shipping
// code runs on the thread pool there.
//
// Steps   look (refusals that need no entry) -> perhaps one command to raft: hand leadership over before the leader is
//         removed, or ask how far a learner is -> the ConfChange entry -> done. A learner elsewhere than at the leader is
//         promoted by asking the leader (one hop).
// Slots   each step rents one and gives it back before the next.
using System;
using System.Buffers.Binary;
using System.Threading.Tasks;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

public sealed partial class Member
{
    /// <summary>A change of membership under way. One driver at a time.</summary>
    internal sealed class MembershipCall(Member member, MemberChange change, ulong id, long deadlineNs)
    {
        private enum Step : byte
        {
            Look,
            HandingOver,
            AskingForSync,
            AskingTheLeader,
            Proposing,
            Ended,
        }

        private Step _step;
        private RequestSlot? _slot;
        private PeerCall? _call;

        /// <summary>Context of the entry; empty for a removal.</summary>
        internal byte[] Context { get; init; } = [];

        /// <summary>How it ended.</summary>
        internal ErrorCode Outcome { get; private set; }

        /// <summary>What it waits for is there: <see cref="Advance"/> gets further.</summary>
        internal bool IsReady => _slot?.IsCompleted ?? _call?.IsCompleted ?? true;

        /// <summary>Takes the next steps; true when it has ended. Only when <see cref="IsReady"/>.</summary>
        internal bool Advance()
        {
            while (_step != Step.Ended)
            {
                switch (_step)
                {
                    case Step.Look:
                        Look();
                        break;
                    case Step.HandingOver:
                        _ = Took(); // whether it worked or not: the change is proposed either way
                        Propose();
                        break;
                    case Step.AskingForSync:
                        ErrorCode ready = Took();
                        ready = ready == ErrorCode.None ? member.Strictly("promote", id, checks => checks.Promote(id)) : ready;
                        if (ready == ErrorCode.None)
                        {
                            Propose();
                        }
                        else
                        {
                            End(ready);
                        }

                        break;
                    case Step.AskingTheLeader:
                        End(_call!.Outcome == PeerCallOutcome.Answered ? _call.Error : ErrorCode.Timeout);
                        break;
                    case Step.Proposing:
                        End(Took());
                        break;
                }

                if (_step != Step.Ended && !IsReady)
                {
                    return false;
                }
            }

            return true;
        }

        /// <summary>Ends when <see cref="IsReady"/>; once between two calls of <see cref="Advance"/>.</summary>
        internal ValueTask WaitAsync() => _slot is { } slot ? Finish(slot.AsValueTask()) : new ValueTask(_call!.Completion);

        private static async ValueTask Finish(ValueTask<ErrorCode> outcome) => _ = await outcome.ConfigureAwait(false);

        private void Look()
        {
            ErrorCode refusal = ErrorCode.None;
            switch (change)
            {
                case MemberChange.Add or MemberChange.AddLearner:
                    refusal = member.Strictly("add", id, checks => checks.Add(change == MemberChange.AddLearner));
                    break;
                case MemberChange.Remove:
                    refusal = member.Strictly("remove", id, checks => checks.Remove(id));
                    if (refusal == ErrorCode.None && id == member.Id && member._counters.Leader == id
                        && member.ClusterView.Members.Length > 1)
                    {
                        long patience = member._clock.NowNs + (2L * member.Options.ElectionMs * 1_000_000);
                        Command(RaftCommandKind.MoveLeader, 0, Math.Min(deadlineNs, patience), Step.HandingOver);
                        return;
                    }

                    break;
                case MemberChange.Promote:
                    LookAtLearner();
                    return;
            }

            if (refusal == ErrorCode.None)
            {
                Propose();
            }
            else
            {
                End(refusal);
            }
        }

        private void LookAtLearner()
        {
            ulong leader = member._counters.Leader;
            if (leader == 0)
            {
                End(ErrorCode.NoLeader);
            }
            else if (leader != member.Id)
            {
                byte[] body = new byte[8];
                BinaryPrimitives.WriteUInt64LittleEndian(body, id);
                long patience = member._clock.NowNs + member.Options.RequestTimeoutNs;
                _call = new PeerCall(PeerCallKind.PromoteMember, leader, body, Math.Min(deadlineNs, patience));
                _step = Step.AskingTheLeader;
                member.Call(_call);
            }
            else if (member.ClusterView.Find(id) is not { } learner)
            {
                End(ErrorCode.MemberNotFound);
            }
            else if (!learner.IsLearner)
            {
                End(ErrorCode.MemberNotLearner);
            }
            else
            {
                Command(RaftCommandKind.IsInSync, id, deadlineNs, Step.AskingForSync);
            }
        }

        private void Command(RaftCommandKind kind, ulong target, long untilNs, Step step)
        {
            RequestSlot slot = member.Rent();
            ErrorCode refusal = member.TryCommand(slot, kind, target, untilNs);
            Began(slot, refusal, step);
        }

        private void Propose()
        {
            RequestSlot slot = member.Rent();
            slot.BeginConfChange(TypeOf(change), id, Context);
            ErrorCode refusal = member._intake.Propose(slot, deadlineNs == 0 ? long.MaxValue : deadlineNs);
            Began(slot, refusal, Step.Proposing);
        }

        private void Began(RequestSlot slot, ErrorCode refusal, Step step)
        {
            if (refusal == ErrorCode.None)
            {
                _slot = slot;
                _step = step;
                return;
            }

            member.Return(slot);
            if (step == Step.HandingOver)
            {
                Propose();
            }
            else
            {
                End(refusal);
            }
        }

        private ErrorCode Took()
        {
            RequestSlot slot = _slot!;
            _slot = null;
            ErrorCode outcome = slot.Outcome;
            member.Return(slot);
            return outcome;
        }

        private void End(ErrorCode outcome)
        {
            Outcome = outcome;
            _step = Step.Ended;
        }

        private static ConfChangeType TypeOf(MemberChange change) => change switch
        {
            MemberChange.AddLearner => ConfChangeType.AddLearnerNode,
            MemberChange.Remove => ConfChangeType.RemoveNode,
            MemberChange.Update => ConfChangeType.UpdateNode,
            _ => ConfChangeType.AddNode,
        };
    }

    /// <summary>What becomes of a member.</summary>
    internal enum MemberChange : byte
    {
        Add,
        AddLearner,
        Promote,
        Remove,
        Update,
    }
}
