// ScheduleTests: the same member under seeded schedules: actors are polled in random order and number, requests come in
// between, and now and then everything is dropped as a kill would and opened again. A model says what must be there:
// every acknowledged write, in order, each once; at most the unacknowledged ones beside it.
using System;
using System.Collections.Generic;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Xunit;

namespace Cairn.Core.Tests.Server;

public sealed class ScheduleTests
{
    private const int Steps = 1500;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    public void Member_UnderRandomSchedulesAndKills_KeepsWhatItAcknowledged(ulong seed)
    {
        using var dir = new TempDir();
        new Run(dir.Path, seed).Go();
    }

    private sealed class Run(string directory, ulong seed)
    {
        private readonly SystemRandom _random = new(seed);
        private readonly MemberOptions _options = PolledMember.OptionsFor(directory) with
        {
            SnapshotCount = 40,
            WalSegmentBytes = 64 << 10,
            BatchIntervalMs = 1,
        };

        /// <summary>Acknowledged revision of each number put; 0 when the outcome is unknown.</summary>
        private readonly SortedDictionary<int, long> _puts = [];
        private readonly List<(int Number, RequestSlot Slot, Task<ErrorCode> Pending)> _pending = [];
        private int _next = 1;
        private long _revision = 1;

        public void Go()
        {
            PolledMember polled = Reopen();
            try
            {
                for (int step = 0; step < Steps; step++)
                {
                    Step(ref polled);
                }

                Settle(polled);
                Verify(polled);
                polled.Stop();
                polled = Reopen();
                Verify(polled);
            }
            finally
            {
                polled.Dispose();
            }
        }

        private int Roll(int sides) => (int)(_random.NextUInt64() % (ulong)sides);

        private void Step(ref PolledMember polled)
        {
            switch (Roll(100))
            {
                case < 30:
                    Put(polled.Member);
                    break;
                case < 31:
                    polled.Dispose();
                    Collect();
                    polled = Reopen();
                    Verify(polled);
                    break;
                case < 33 when _revision > 3:
                    _ = polled.Propose(RequestKind.Compaction, Requests.Compaction(_revision - 2), ProposalLane.Control);
                    break;
                case < 35:
                    polled.FreezeAndWait();
                    break;
                default:
                    ReadOnlySpan<MemberActor> actors = polled.Member.Actors;
                    IActor actor = actors[Roll(actors.Length)].Actor;
                    for (int i = Roll(4); i >= 0; i--)
                    {
                        _ = actor.Poll(SystemClock.Instance.NowNs);
                    }

                    break;
            }

            Collect();
        }

        private PolledMember Reopen()
        {
            PolledMember polled = PolledMember.Open(_options);
            Assert.True(polled.Member.Status.Revision >= _revision, $"seed {seed}: revisions went back");
            return polled;
        }

        private void Put(Member member)
        {
            int number = _next++;
            RequestSlot slot = member.Rent();
            byte[] body = Requests.Put($"key-{number:d6}", new string('v', Roll(3000)));
            body.CopyTo(slot.BeginRequest(RequestKind.Put, body.Length));
            _puts[number] = 0;
            _pending.Add((number, slot, member.ProposeAsync(slot).AsTask()));
        }

        /// <summary>Takes the outcomes that are there.</summary>
        private void Collect()
        {
            for (int i = _pending.Count - 1; i >= 0; i--)
            {
                (int number, RequestSlot slot, Task<ErrorCode> pending) = _pending[i];
                if (!slot.IsCompleted)
                {
                    continue;
                }

                _pending.RemoveAt(i);
                if (slot.Outcome == ErrorCode.None)
                {
                    long revision = Requests.HeaderRevision(slot.Response.WrittenSpan);
                    _puts[number] = revision;
                    _revision = Math.Max(_revision, revision);
                }
                else
                {
                    Assert.Equal(ErrorCode.Stopped, slot.Outcome);
                }
            }
        }

        private void Settle(PolledMember polled)
        {
            polled.Run(
                () =>
                {
                    Collect();
                    return _pending.Count == 0;
                },
                "the last puts");
        }

        private void Verify(PolledMember polled)
        {
            RequestSlot slot = polled.Member.Rent();
            Assert.Equal(ErrorCode.None, polled.Await(polled.Member.ReadIndexAsync(slot), "read index"));
            polled.Member.Return(slot);
            var output = new NativeBuffer(new NativePool());
            Cairn.Core.Mvcc.ViewPin pin = polled.Member.Store.Pin();
            ErrorCode code = polled.Member.Store.Range(
                Requests.Range("\0", rangeEnd: "\0"), pin, polled.Member.Header, ref output);
            polled.Member.Store.Unpin(pin);
            Assert.Equal(ErrorCode.None, code);
            var revisions = new HashSet<long>();
            var found = new Dictionary<int, long>();
            var reader = new ProtoReader(output.WrittenSpan);
            while (reader.NextField())
            {
                if (reader.Field != 2)
                {
                    reader.Skip();
                    continue;
                }

                byte[] pair = reader.ReadBytes().ToArray();
                string key = System.Text.Encoding.Latin1.GetString(Requests.Field(pair, 1)!);
                long modified = (long)Requests.Varint(pair, 3);
                Assert.Equal(modified, (long)Requests.Varint(pair, 2)); // put once: created where it was modified
                Assert.True(revisions.Add(modified), $"seed {seed}: revision {modified} was used twice");
                found[int.Parse(key.AsSpan(4), System.Globalization.CultureInfo.InvariantCulture)] = modified;
            }

            foreach ((int number, long revision) in _puts)
            {
                if (revision != 0)
                {
                    Assert.True(found.TryGetValue(number, out long there), $"seed {seed}: acknowledged put {number} is lost");
                    Assert.Equal(revision, there);
                }
            }

            foreach (int number in found.Keys)
            {
                Assert.True(_puts.ContainsKey(number), $"seed {seed}: put {number} was never made");
            }

            output.Free();
        }
    }
}
