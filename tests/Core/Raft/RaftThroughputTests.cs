// One entry through three members in memory: what it costs, and that it allocates nothing.
using System;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Core.Tests.Raft;

public sealed class RaftThroughputTests(ITestOutputHelper output)
{
    [Fact]
    public unsafe void Batch64_ThreeMembers_SteadyState_AllocatesNothing()
    {
        var payloads = new NoPayloads();
        var cores = new RaftCore[3];
        for (int i = 0; i < cores.Length; i++)
        {
            cores[i] = new RaftCore(
                new RaftConfig { Id = (ulong)i + 1 }, payloads, new HardState(1, 0, 0), new ConfState { Voters = [1, 2, 3] }, 0, 0, []);
            cores[i].Tick(0);
        }

        byte[] bytes = GC.AllocateArray<byte>(64, pinned: true);
        byte* payload = (byte*)System.Runtime.InteropServices.Marshal.UnsafeAddrOfPinnedArrayElement(bytes, 0);
        var batch = new RaftProposal[64];
        var copies = new RaftEntry[4096];
        long now = 0;
        cores[0].CampaignNow();
        Flow();
        Assert.Equal(RaftRole.Leader, cores[0].Role);
        for (int i = 0; i < 2_000; i++)
        {
            Round();
        }

        const int Rounds = 8_000;
        ulong before = cores[2].Applied;
        long started = System.Diagnostics.Stopwatch.GetTimestamp();
        long allocated = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < Rounds; i++)
        {
            Round();
        }

        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        TimeSpan spent = System.Diagnostics.Stopwatch.GetElapsedTime(started);
        Assert.Equal(0, allocated);
        Assert.True(cores[2].Applied - before > (Rounds - 2) * 64UL, "followers keep up");
        Assert.Equal(cores[0].LastIndex, cores[0].Commit);
        output.WriteLine($"{spent.TotalNanoseconds / Rounds / 64:F0} ns of wall time an entry at batch 64, three members, propose to applied everywhere");

        void Round()
        {
            for (int i = 0; i < batch.Length; i++)
            {
                batch[i] = new RaftProposal { Data = payload, Length = 64, Owner = 1 };
            }

            cores[0].Propose(batch);
            _ = cores[0].ReadIndex(1, out _);
            now += 1_000_000;
            foreach (RaftCore core in cores)
            {
                core.Tick(now);
            }

            Flow();
        }

        void Flow()
        {
            for (bool moved = true; moved;)
            {
                moved = false;
                foreach (RaftCore core in cores)
                {
                    while (core.TryTakeAppend(out AppendUnit unit))
                    {
                        core.WalDurable(unit.Sequence);
                        moved = true;
                    }

                    while (core.TryTakeMessage(out RaftMessage message))
                    {
                        Span<RaftEntry> entries = copies.AsSpan(0, message.EntryCount);
                        core.CopyEntries(message.Index + 1, entries);
                        cores[message.To - 1].Step(in message, entries);
                        moved = true;
                    }

                    while (core.TryTakeCommitted(4096, out _, out ulong hi))
                    {
                        core.ReportApplied(hi);
                        moved = true;
                    }

                    while (core.TryTakeRead(out _))
                    {
                    }
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
