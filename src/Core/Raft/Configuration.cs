// Configuration: who votes and who learns, and the algebra of changing it.
//
// Why        etcd's API only makes single changes (add, remove, promote), but a log and a snapshot may describe joint
//            states, and safe replacement needs them, so the algebra is whole from the start.
// Rules      A simple change is allowed outside joint states only and moves the set of voters by at most one. Entering
//            a joint state copies the voters to the outgoing half first. A voter demoted while it still votes in the
//            outgoing half waits in LearnersNext. A node is never voter and learner at once. Changes of node 0 do
//            nothing. The last voter cannot go.
// Owner      The core. Cold: allocates when a configuration changes.
using System;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Raft;

/// <summary>One step of a change of configuration.</summary>
/// <param name="Type">What to do.</param>
/// <param name="NodeId">With whom; 0 makes the step a no-op.</param>
public readonly record struct ConfChangeStep(ConfChangeType Type, ulong NodeId);

/// <summary>A membership configuration; immutable.</summary>
public sealed class Configuration
{
    private readonly SortedSet<ulong> _incoming;
    private readonly SortedSet<ulong> _outgoing;
    private readonly SortedSet<ulong> _learners;
    private readonly SortedSet<ulong> _learnersNext;

    private Configuration(
        SortedSet<ulong> incoming, SortedSet<ulong> outgoing, SortedSet<ulong> learners, SortedSet<ulong> learnersNext,
        bool autoLeave)
    {
        _incoming = incoming;
        _outgoing = outgoing;
        _learners = learners;
        _learnersNext = learnersNext;
        AutoLeave = autoLeave;
        Incoming = [.. incoming];
        Outgoing = [.. outgoing];
        Learners = [.. learners];
        LearnersNext = [.. learnersNext];
    }

    /// <summary>Nobody: the state before the first bootstrap entry is applied.</summary>
    public static Configuration Empty { get; } = new([], [], [], [], false);

    /// <summary>Voters of the incoming half, ascending.</summary>
    public ulong[] Incoming { get; }

    /// <summary>Voters of the half being left, ascending; empty unless joint.</summary>
    public ulong[] Outgoing { get; }

    public ulong[] Learners { get; }

    public ulong[] LearnersNext { get; }

    /// <summary>The leader leaves the joint state by itself once it is applied.</summary>
    public bool AutoLeave { get; }

    public bool IsJoint => _outgoing.Count > 0;

    /// <summary>Votes in either half.</summary>
    public bool IsVoter(ulong id) => _incoming.Contains(id) || _outgoing.Contains(id);

    public bool IsLearner(ulong id) => _learners.Contains(id);

    /// <summary>Voter or learner.</summary>
    public bool Contains(ulong id) => IsVoter(id) || IsLearner(id);

    /// <summary>The one and only voter.</summary>
    public bool IsSoleVoter(ulong id) => !IsJoint && _incoming.Count == 1 && _incoming.Contains(id);

    /// <summary>True if there is nobody but this member.</summary>
    public bool IsAlone(ulong id) => IsSoleVoter(id) && _learners.Count == 0;

    /// <summary>As stored in snapshots; lists ascend.</summary>
    public ConfState ToConfState() => new()
    {
        Voters = [.. _incoming],
        VotersOutgoing = [.. _outgoing],
        Learners = [.. _learners],
        LearnersNext = [.. _learnersNext],
        AutoLeave = AutoLeave,
    };

    /// <summary>Rebuilds a configuration; null with the reason when the lists contradict each other.</summary>
    public static Configuration? FromConfState(ConfState state, out string problem)
    {
        var configuration = new Configuration(
            [.. state.Voters], [.. state.VotersOutgoing], [.. state.Learners], [.. state.LearnersNext], state.AutoLeave);
        problem = configuration.Check();
        return problem.Length == 0 ? configuration : null;
    }

    /// <summary>A change outside joint states; null with the reason when it is not allowed.</summary>
    public Configuration? Simple(ReadOnlySpan<ConfChangeStep> steps, out string problem)
    {
        if (IsJoint)
        {
            problem = "a simple change is not possible in a joint configuration";
            return null;
        }

        Configuration? next = Apply(Copy(_incoming), [], steps, false, out problem);
        if (next == null)
        {
            return null;
        }

        int difference = 0;
        foreach (ulong id in next._incoming)
        {
            difference += _incoming.Contains(id) ? 0 : 1;
        }

        foreach (ulong id in _incoming)
        {
            difference += next._incoming.Contains(id) ? 0 : 1;
        }

        if (difference > 1 && !Mutations.Is(Mutation.TwoVotersInOneChange))
        {
            problem = "more than one voter changed without a joint configuration";
            return null;
        }

        return next;
    }

    /// <summary>Enters a joint configuration; null with the reason when it is not allowed.</summary>
    public Configuration? EnterJoint(bool autoLeave, ReadOnlySpan<ConfChangeStep> steps, out string problem)
    {
        if (IsJoint)
        {
            problem = "the configuration is joint already";
            return null;
        }

        if (_incoming.Count == 0)
        {
            problem = "a configuration without voters cannot become joint";
            return null;
        }

        return Apply(Copy(_incoming), Copy(_incoming), steps, autoLeave, out problem);
    }

    /// <summary>Leaves a joint configuration; null with the reason when there is none.</summary>
    public Configuration? LeaveJoint(out string problem)
    {
        if (!IsJoint)
        {
            problem = "the configuration is not joint";
            return null;
        }

        var learners = Copy(_learners);
        learners.UnionWith(_learnersNext);
        var next = new Configuration(_incoming, [], learners, [], false);
        problem = next.Check();
        return problem.Length == 0 ? next : null;
    }

    private static SortedSet<ulong> Copy(SortedSet<ulong> set) => new(set);

    private Configuration? Apply(
        SortedSet<ulong> incoming, SortedSet<ulong> outgoing, ReadOnlySpan<ConfChangeStep> steps, bool autoLeave,
        out string problem)
    {
        var learners = Copy(_learners);
        var learnersNext = Copy(_learnersNext);
        foreach (ConfChangeStep step in steps)
        {
            ulong id = step.NodeId;
            if (id == 0)
            {
                continue;
            }

            switch (step.Type)
            {
                case ConfChangeType.AddNode:
                    _ = incoming.Add(id);
                    _ = learners.Remove(id);
                    _ = learnersNext.Remove(id);
                    break;
                case ConfChangeType.AddLearnerNode:
                    if (learners.Contains(id))
                    {
                        break;
                    }

                    _ = incoming.Remove(id);
                    _ = learnersNext.Remove(id);
                    _ = outgoing.Contains(id) ? learnersNext.Add(id) : learners.Add(id);
                    break;
                case ConfChangeType.RemoveNode:
                    _ = incoming.Remove(id);
                    _ = learners.Remove(id);
                    _ = learnersNext.Remove(id);
                    break;
                case ConfChangeType.UpdateNode:
                    break;
                default:
                    problem = "unknown kind of configuration change";
                    return null;
            }
        }

        if (incoming.Count == 0)
        {
            problem = "the last voter cannot be removed";
            return null;
        }

        var next = new Configuration(incoming, outgoing, learners, learnersNext, autoLeave);
        problem = next.Check();
        return problem.Length == 0 ? next : null;
    }

    private string Check()
    {
        if (_learners.Overlaps(_incoming) || _learners.Overlaps(_outgoing))
        {
            return "a member is voter and learner at once";
        }

        if (!_learnersNext.IsSubsetOf(_outgoing) || _learnersNext.Overlaps(_incoming))
        {
            return "a learner to be does not vote in the outgoing half only";
        }

        return !IsJoint && (AutoLeave || _learnersNext.Count > 0)
            ? "joint attributes outside a joint configuration"
            : "";
    }
}
