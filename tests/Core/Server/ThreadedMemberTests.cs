// ThreadedMemberTests: the same member with a thread for every actor, as Host runs it: many callers at once, stop while
// they are busy, and the promise that counts: what was acknowledged is there afterwards.
using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Xunit;

namespace Cairn.Core.Tests.Server;

public sealed class ThreadedMemberTests
{
    private const int Writers = 16;

    [Fact]
    public async Task Stop_WhileManyWrite_KeepsWhatWasAcknowledged()
    {
        using var dir = new TempDir();
        int[] acknowledged = new int[Writers];
        long highest;
        using (var running = new ThreadedMember(PolledMember.OptionsFor(dir.Path)))
        {
            await running.Member.Ready.WaitAsync(TimeSpan.FromSeconds(30));
            var writers = new List<Task>();
            for (int i = 0; i < Writers; i++)
            {
                writers.Add(WriteUntilStopped(running.Member, i, acknowledged));
            }

            while (Sum(acknowledged) < 2000)
            {
                await Task.Delay(5);
            }

            running.Member.BeginStop();
            await Task.WhenAll(writers).WaitAsync(TimeSpan.FromSeconds(30));
            await running.Member.Stopped.WaitAsync(TimeSpan.FromSeconds(30));
            highest = running.Member.Status.Revision;
            Assert.Null(running.Fatal.Message);
        }

        using PolledMember again = PolledMember.Open(PolledMember.OptionsFor(dir.Path), ready: false);
        Assert.Equal(highest, again.Member.Status.Revision);
        again.Run(() => again.Member.Ready.IsCompleted, "ready");
        for (int i = 0; i < Writers; i++)
        {
            // One more write may have been in flight: its outcome was "stopped", that is unknown.
            int found = int.Parse(again.Get($"writer-{i}")!, System.Globalization.CultureInfo.InvariantCulture);
            Assert.InRange(found, acknowledged[i], acknowledged[i] + 1);
        }
    }

    [Fact]
    public async Task Reads_WhileOthersWrite_NeverGoBack()
    {
        using var dir = new TempDir();
        using var running = new ThreadedMember(PolledMember.OptionsFor(dir.Path));
        await running.Member.Ready.WaitAsync(TimeSpan.FromSeconds(30));
        int[] acknowledged = new int[1];
        Task writer = WriteUntilStopped(running.Member, 0, acknowledged);
        int last = 0;
        while (last < 500)
        {
            int before = Volatile.Read(ref acknowledged[0]);
            RequestSlot slot = running.Member.Rent();
            Assert.Equal(ErrorCode.None, await running.Member.ReadIndexAsync(slot));
            running.Member.Return(slot);
            int seen = Read(running.Member, "writer-0");
            Assert.True(seen >= before, $"read {seen} after {before} was acknowledged");
            Assert.True(seen >= last, $"read {seen} after {last} was read");
            last = seen;
            await Task.Yield();
        }

        running.Member.BeginStop();
        await writer.WaitAsync(TimeSpan.FromSeconds(30));
        await running.Member.Stopped.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Null(running.Fatal.Message);
    }

    private static async Task WriteUntilStopped(Member member, int writer, int[] acknowledged)
    {
        for (int i = 1; ; i++)
        {
            RequestSlot slot = member.Rent();
            byte[] body = Requests.Put($"writer-{writer}", $"{i}");
            body.CopyTo(slot.BeginRequest(RequestKind.Put, body.Length));
            ErrorCode outcome = await member.ProposeAsync(slot);
            member.Return(slot);
            if (outcome != ErrorCode.None)
            {
                Assert.Equal(ErrorCode.Stopped, outcome);
                return;
            }

            Volatile.Write(ref acknowledged[writer], i);
        }
    }

    private static int Read(Member member, string key)
    {
        var output = new NativeBuffer(new NativePool());
        Cairn.Core.Mvcc.ViewPin pin = member.Store.Pin();
        ErrorCode code = member.Store.Range(Requests.Range(key), pin, member.Header, ref output);
        member.Store.Unpin(pin);
        Assert.Equal(ErrorCode.None, code);
        string? value = Requests.FirstValue(output.WrittenSpan);
        output.Free();
        return value is null ? 0 : int.Parse(value, System.Globalization.CultureInfo.InvariantCulture);
    }

    private static int Sum(int[] numbers)
    {
        int sum = 0;
        for (int i = 0; i < numbers.Length; i++)
        {
            sum += Volatile.Read(ref numbers[i]);
        }

        return sum;
    }

    private sealed class ThreadedMember : IDisposable
    {
        private readonly List<ActorThread> _threads = [];

        public ThreadedMember(MemberOptions options)
        {
            Member = Member.Open(options, new MemberEnvironment
            {
                FileSystem = new PosixFileSystem(),
                Clock = SystemClock.Instance,
                Random = new SystemRandom(),
                Fatal = Fatal,
                Pool = new NativePool(),
                Log = new TestLog(),
            });
            foreach (MemberActor actor in Member.Actors)
            {
                var thread = new ActorThread(actor.Actor, SystemClock.Instance, Fatal);
                actor.Attach(thread);
                _threads.Add(thread);
            }

            foreach (ActorThread thread in _threads)
            {
                thread.Start();
            }
        }

        public Member Member { get; }

        public TestFatal Fatal { get; } = new();

        public void Dispose()
        {
            foreach (ActorThread thread in _threads)
            {
                thread.Stop();
            }

            Member.Dispose();
        }
    }
}
