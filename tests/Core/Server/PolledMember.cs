// PolledMember: a member over a directory, driven by the test's own thread: every actor is polled in turn until what
// the test waits for has happened. No threads of its own, no sleeps; a wait that comes to nothing fails.
using System;
using System.Collections.Generic;
using System.IO;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Cairn.Core.Tests.Server;

internal sealed class TestFatal : IFatal
{
    public string? Message { get; private set; }

    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    public void Stop(string message, Exception? cause = null)
    {
        Message = message;
        throw new InvalidOperationException("fatal: " + message, cause);
    }
}

internal sealed class TestLog : ILogger
{
    public List<string> Lines { get; } = [];

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(
        LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        lock (Lines)
        {
            Lines.Add(logLevel + " " + formatter(state, exception));
        }
    }
}

/// <summary>A temporary directory that goes away with the test.</summary>
internal sealed class TempDir : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("cairn-server-").FullName;

    /// <summary>A copy of a directory tree.</summary>
    public static TempDir CopyOf(string source)
    {
        var copy = new TempDir();
        foreach (string directory in Directory.GetDirectories(source, "*", SearchOption.AllDirectories))
        {
            Directory.CreateDirectory(directory.Replace(source, copy.Path, StringComparison.Ordinal));
        }

        foreach (string file in Directory.GetFiles(source, "*", SearchOption.AllDirectories))
        {
            File.Copy(file, file.Replace(source, copy.Path, StringComparison.Ordinal));
        }

        return copy;
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}

internal sealed class PolledMember : IDisposable
{
    private const long PatienceNs = 60_000_000_000;
    private bool _disposed;

    private PolledMember(Member member, MemberOptions options, TestFatal fatal, TestLog log)
    {
        Member = member;
        Options = options;
        Fatal = fatal;
        Log = log;
    }

    public Member Member { get; }

    public MemberOptions Options { get; }

    public TestFatal Fatal { get; }

    public TestLog Log { get; }

    public static MemberOptions OptionsFor(string dataDir) => new()
    {
        Name = "m1",
        DataDir = dataDir,
        InitialAdvertisePeerUrls = ["http://127.0.0.1:43380"],
        AdvertiseClientUrls = ["http://127.0.0.1:43379"],
        InitialCluster = [new InitialMember("m1", ["http://127.0.0.1:43380"])],
        InitialClusterToken = "test",
        RequestSlots = 64,
        WalSegmentBytes = 4 << 20,
    };

    public static PolledMember Open(string dataDir) => Open(OptionsFor(dataDir));

    public static PolledMember Open(MemberOptions options, bool ready = true, IFileSystem? files = null)
    {
        var fatal = new TestFatal();
        var log = new TestLog();
        Member member = Member.Open(options, new MemberEnvironment
        {
            FileSystem = files ?? new PosixFileSystem(),
            Clock = SystemClock.Instance,
            Random = new SystemRandom(),
            Fatal = fatal,
            Pool = new NativePool(),
            Log = log,
        });
        var polled = new PolledMember(member, options, fatal, log);
        try
        {
            if (ready)
            {
                polled.Run(() => member.Ready.IsCompleted, "ready");
            }
        }
        catch
        {
            polled.Dispose();
            throw;
        }

        return polled;
    }

    /// <summary>Polls every actor once; true if any did something.</summary>
    public bool PollOnce()
    {
        bool worked = false;
        foreach (MemberActor actor in Member.Actors)
        {
            worked |= actor.Actor.Poll(SystemClock.Instance.NowNs);
        }

        return worked;
    }

    /// <summary>Polls until the condition holds.</summary>
    public void Run(Func<bool> until, string what)
    {
        long deadline = SystemClock.Instance.NowNs + PatienceNs;
        while (!until())
        {
            if (!PollOnce())
            {
                System.Threading.Thread.Yield();
            }

            if (SystemClock.Instance.NowNs > deadline)
            {
                Assert.Fail($"nothing came of '{what}': {Member.Status}\n" + string.Join('\n', Log.Lines));
            }
        }
    }

    public ErrorCode Await(ValueTask<ErrorCode> pending, string what)
    {
        Task<ErrorCode> task = pending.AsTask();
        Run(() => task.IsCompleted, what);
        return task.Result;
    }

    /// <summary>Proposes and returns outcome and response body.</summary>
    public (ErrorCode Outcome, byte[] Response) Propose(
        RequestKind kind, ReadOnlySpan<byte> body, ProposalLane lane = ProposalLane.Normal)
    {
        RequestSlot slot = Member.Rent();
        try
        {
            slot.Lane = lane;
            body.CopyTo(slot.BeginRequest(kind, body.Length));
            ErrorCode outcome = Await(Member.ProposeAsync(slot), kind.ToString());
            return (outcome, outcome == ErrorCode.None ? slot.Response.WrittenSpan.ToArray() : []);
        }
        finally
        {
            Member.Return(slot);
        }
    }

    public ErrorCode Put(string key, string value, long lease = 0) =>
        Propose(RequestKind.Put, Requests.Put(key, value, lease)).Outcome;

    /// <summary>The value of one key by a linearizable read; null when absent.</summary>
    public string? Get(string key, long revision = 0)
    {
        RequestSlot slot = Member.Rent();
        var output = new NativeBuffer(new NativePool());
        try
        {
            Assert.Equal(ErrorCode.None, Await(Member.ReadIndexAsync(slot), "read index"));
            ViewPin pin = Member.Store.Pin();
            ErrorCode code = Member.Store.Range(Requests.Range(key, revision), pin, Member.Header, ref output);
            Member.Store.Unpin(pin);
            Assert.Equal(ErrorCode.None, code);
            return Requests.FirstValue(output.WrittenSpan);
        }
        finally
        {
            output.Free();
            Member.Return(slot);
        }
    }

    public void FreezeAndWait()
    {
        RequestSlot slot = Member.Rent();
        Assert.Equal(ErrorCode.None, Await(Member.FreezeAndWaitAsync(slot), "freeze"));
        Member.Return(slot);
    }

    public HashKvResult HashKv(long revision)
    {
        Assert.Equal(ErrorCode.None, Member.Store.HashKv(revision, out HashKvResult result));
        return result;
    }

    /// <summary>The stop sequence, then disposal.</summary>
    public void Stop()
    {
        Member.BeginStop();
        Run(() => Member.Stopped.IsCompleted, "stop");
        Dispose();
    }

    /// <summary>Drops everything as a kill would: nothing is flushed.</summary>
    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            Member.Dispose();
        }
    }
}
