// LinearSearch: is there an order of these operations, consistent with when they ran, that the model agrees with?
//
// Wing and Gong's search with Lowe's improvements: calls and returns in a doubly linked list in the order of time. Any
// call before the first return may be the next to take effect; one that the model accepts is lifted out with its return
// and the search starts at the head again; at a return nobody could get rid of, the last choice is taken back. What was
// tried is remembered as (set of operations done, state), so no such pair is searched twice. Operations with an open end
// have no return: they may be taken at any time, or never.
using System;
using System.Collections.Generic;

namespace Cairn.Simulation;

internal enum SearchResult : byte
{
    Linearizable,
    Violation,

    /// <summary>Given up after the steps allowed.</summary>
    Unknown,
}

internal static class LinearSearch
{
    /// <summary>Searches. Deterministic: bounded by steps, not by time.</summary>
    /// <param name="model">Judges.</param>
    /// <param name="operations">In any order.</param>
    /// <param name="maxSteps">Model steps after which it gives up.</param>
    /// <param name="longest">The longest order found, for showing where it breaks.</param>
    public static SearchResult Run<TState>(
        IHistoryModel<TState> model, IReadOnlyList<HistoryOperation> operations, long maxSteps,
        out List<HistoryOperation> longest)
        where TState : class, IEquatable<TState>
    {
        longest = [];
        Node head = Link(operations, out int open);
        var done = new ulong[(operations.Count + 63) / 64];
        var seen = new HashSet<Visited<TState>>();
        var stack = new Stack<(Node Call, TState State)>();
        TState state = model.Start;
        Node? at = head.Next;
        long steps = 0;
        while (open > 0)
        {
            if (at is { IsCall: true })
            {
                if (++steps > maxSteps)
                {
                    return SearchResult.Unknown;
                }

                if (model.Step(state, at.Operation!) is { } next)
                {
                    done[at.Number >> 6] |= 1UL << (at.Number & 63);
                    if (seen.Add(new Visited<TState>((ulong[])done.Clone(), next)))
                    {
                        stack.Push((at, state));
                        state = next;
                        Lift(at);
                        open -= at.Other is null ? 0 : 1;
                        if (stack.Count > longest.Count)
                        {
                            longest.Clear();
                            foreach ((Node call, _) in stack)
                            {
                                longest.Add(call.Operation!);
                            }
                        }

                        at = head.Next;
                        continue;
                    }

                    done[at.Number >> 6] &= ~(1UL << (at.Number & 63));
                }

                at = at.Next;
                continue;
            }

            if (stack.Count == 0)
            {
                longest.Reverse();
                return SearchResult.Violation;
            }

            (Node last, state) = stack.Pop();
            done[last.Number >> 6] &= ~(1UL << (last.Number & 63));
            Unlift(last);
            open += last.Other is null ? 0 : 1;
            at = last.Next;
        }

        return SearchResult.Linearizable;
    }

    private static Node Link(IReadOnlyList<HistoryOperation> operations, out int open)
    {
        var nodes = new List<Node>(operations.Count * 2);
        open = 0;
        for (int i = 0; i < operations.Count; i++)
        {
            var call = new Node { Operation = operations[i], IsCall = true, Number = i, Time = operations[i].Call };
            nodes.Add(call);
            if (operations[i].Return != HistoryOperation.Never)
            {
                open++;
                call.Other = new Node { Operation = operations[i], Number = i, Time = operations[i].Return };
                nodes.Add(call.Other);
            }
        }

        nodes.Sort(static (a, b) => a.Time.CompareTo(b.Time));
        var head = new Node();
        Node previous = head;
        foreach (Node node in nodes)
        {
            previous.Next = node;
            node.Previous = previous;
            previous = node;
        }

        return head;
    }

    private static void Lift(Node call)
    {
        Remove(call);
        if (call.Other is not null)
        {
            Remove(call.Other);
        }
    }

    private static void Unlift(Node call)
    {
        if (call.Other is not null)
        {
            Restore(call.Other);
        }

        Restore(call);
    }

    private static void Remove(Node node)
    {
        node.Previous!.Next = node.Next;
        if (node.Next is not null)
        {
            node.Next.Previous = node.Previous;
        }
    }

    private static void Restore(Node node)
    {
        node.Previous!.Next = node;
        if (node.Next is not null)
        {
            node.Next.Previous = node;
        }
    }

    private sealed class Node
    {
        public HistoryOperation? Operation;
        public Node? Other;
        public Node? Next;
        public Node? Previous;
        public bool IsCall;
        public int Number;
        public long Time;
    }

    private readonly struct Visited<TState>(ulong[] done, TState state) : IEquatable<Visited<TState>>
        where TState : class, IEquatable<TState>
    {
        private readonly ulong[] _done = done;
        private readonly TState _state = state;

        public bool Equals(Visited<TState> other) =>
            _done.AsSpan().SequenceEqual(other._done) && _state.Equals(other._state);

        public override bool Equals(object? obj) => obj is Visited<TState> other && Equals(other);

        public override int GetHashCode()
        {
            ulong hash = (ulong)(uint)_state.GetHashCode();
            foreach (ulong word in _done)
            {
                hash = (hash ^ word) * 0x9E3779B97F4A7C15;
            }

            return (int)(hash >> 32);
        }
    }
}
