// Question  what does committing one entry cost in the core: one member, three members, batches of 64? (Limit for three: 2 µs, 0 bytes.)
// Method    propose, hand every message over by hand, everything durable at once, applied everywhere. No disk, no socket.
using System;
using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Bench.Micro;

public unsafe class RaftBenchmarks
{
    private const int Batch = 64;
    private readonly RaftProposal[] _batch = new RaftProposal[Batch];
    private readonly RaftEntry[] _copies = new RaftEntry[4096];
    private RaftCore[] _cores = [];
    private byte* _payload;
    private long _nowNs;

    [Params(1, 3)]
    public int Members { get; set; }

    [GlobalSetup]
    public void Begin()
    {
        _payload = (byte*)NativeMemory.AllocZeroed(64);
        var voters = new ulong[Members];
        for (int i = 0; i < Members; i++)
        {
            voters[i] = (ulong)i + 1;
        }

        _cores = new RaftCore[Members];
        for (int i = 0; i < Members; i++)
        {
            _cores[i] = new RaftCore(
                new RaftConfig { Id = (ulong)i + 1 }, new NoPayloads(), new HardState(1, 0, 0), new ConfState { Voters = voters }, 0, 0, []);
            _cores[i].Tick(0);
        }

        _cores[0].CampaignNow();
        Flow();
        Invariant.Check(_cores[0].Role == RaftRole.Leader, "the first member leads");
    }

    [GlobalCleanup]
    public void End()
    {
        Invariant.Check(_cores[^1].Applied + Batch > _cores[0].LastIndex, "all members keep up");
        foreach (RaftCore core in _cores)
        {
            core.Dispose();
        }

        NativeMemory.Free(_payload);
    }

    [Benchmark(Description = "raft: an entry, propose to applied on all members", OperationsPerInvoke = Batch)]
    public void Commit()
    {
        for (int i = 0; i < _batch.Length; i++)
        {
            _batch[i] = new RaftProposal { Data = _payload, Length = 64, Owner = 1 };
        }

        _cores[0].Propose(_batch);
        _nowNs += 1_000_000;
        foreach (RaftCore core in _cores)
        {
            core.Tick(_nowNs);
        }

        Flow();
        if (_cores[0].Applied > _cores[0].CompactedIndex + 100_000)
        {
            foreach (RaftCore core in _cores)
            {
                core.Compact(Math.Min(core.Applied, core.Durable) - 1000);
            }
        }
    }

    private void Flow()
    {
        for (bool moved = true; moved;)
        {
            moved = false;
            foreach (RaftCore core in _cores)
            {
                while (core.TryTakeAppend(out AppendUnit unit))
                {
                    core.WalDurable(unit.Sequence);
                    moved = true;
                }

                while (core.TryTakeMessage(out RaftMessage message))
                {
                    Span<RaftEntry> entries = _copies.AsSpan(0, message.EntryCount);
                    core.CopyEntries(message.Index + 1, entries);
                    _cores[message.To - 1].Step(in message, entries);
                    moved = true;
                }

                while (core.TryTakeCommitted(4096, out _, out ulong last))
                {
                    core.ReportApplied(last);
                    moved = true;
                }
            }
        }
    }

    private sealed class NoPayloads : IPayloadOwner
    {
        public void Release(nint owner)
        {
        }
    }
}
