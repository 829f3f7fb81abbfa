// The production file system on a temporary folder.
using System;
using System.IO;
using System.Threading;
using Xunit;

namespace Cairn.Base.Tests;

public sealed unsafe class FileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("cairn-base-").FullName;
    private readonly PosixFileSystem _files = PosixFileSystem.Instance;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void WriteV_ManySegments_LandInOrder()
    {
        using IFile file = _files.Open(Path.Combine(_folder, "v"), FileOpenMode.OpenOrCreate);
        var operation = new FileOperation(3000);
        byte[] source = new byte[2600];
        new Random(7).NextBytes(source);
        fixed (byte* data = source)
        {
            operation.PrepareWrite(5);
            for (int i = 0; i < 2600; i++)
            {
                Assert.True(operation.TryAdd(data + i, 1));
            }

            file.Submit(operation);
        }

        Assert.True(operation.IsCompleted);
        Assert.Equal(0, operation.Error);
        operation.PrepareSync();
        file.Submit(operation);
        Assert.Equal(0, operation.Error);
        byte[] back = new byte[2605];
        Assert.Equal(2605, file.Read(0, back));
        Assert.Equal(source, back[5..]);
    }

    [Fact]
    public void Map_FileGrows_NewBytesAppearAtTheSameAddress()
    {
        using IFile file = _files.Open(Path.Combine(_folder, "m"), FileOpenMode.OpenOrCreate);
        file.Write(0, "first"u8);
        byte* map = file.Map(1L << 30);
        Assert.Equal((byte)'f', map[0]);
        file.SetLength(1 << 20);
        file.Write(100_000, "later"u8);
        file.Populate(100_000, 5);
        Assert.Equal((byte)'l', map[100_000]);
        file.PunchHole(98_304, 4096);
        Assert.Equal(0, map[100_000]);
    }

    [Theory]
    [InlineData(FileLockKind.Flock)]
    [InlineData(FileLockKind.OpenFileDescription)]
    public void Lock_SecondHolder_IsRefusedUntilClosed(FileLockKind kind)
    {
        string path = Path.Combine(_folder, "l");
        IFile first = _files.Open(path, FileOpenMode.OpenOrCreate);
        using IFile second = _files.Open(path, FileOpenMode.ReadWrite);
        Assert.True(first.TryLock(kind));
        Assert.False(second.TryLock(kind));
        first.Dispose();
        Assert.True(second.TryLock(kind));
    }

    [Fact]
    public void Open_Missing_NamesCallPathAndCause()
    {
        string path = Path.Combine(_folder, "absent");
        var e = Assert.Throws<FileSystemException>(() => _files.Open(path, FileOpenMode.ReadWrite));
        Assert.Equal(2, e.Errno);
        Assert.Contains(path, e.Message, StringComparison.Ordinal);
        Assert.Contains("open", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Write_ReadOnlyFile_Throws()
    {
        string path = Path.Combine(_folder, "r");
        File.WriteAllText(path, "x");
        using IFile file = _files.Open(path, FileOpenMode.Read);
        Assert.Throws<FileSystemException>(() => file.Write(0, "y"u8));
        Assert.Equal("x", File.ReadAllText(path));
    }

    [Fact]
    public void Directory_ListRenameDelete_WorkOnNames()
    {
        string inner = Path.Combine(_folder, "a", "b");
        _files.CreateDirectory(inner);
        using (_files.Open(Path.Combine(inner, "2"), FileOpenMode.OpenOrCreate))
        using (_files.Open(Path.Combine(inner, "1"), FileOpenMode.OpenOrCreate))
        {
        }

        _files.SyncDirectory(inner);
        Assert.Equal(["1", "2"], _files.List(inner));
        _files.Rename(Path.Combine(inner, "1"), Path.Combine(inner, "2"));
        Assert.Equal(["2"], _files.List(inner));
        _files.DeleteFile(Path.Combine(inner, "2"));
        Assert.Throws<FileSystemException>(() => _files.DeleteFile(Path.Combine(inner, "2")));
        _files.DeleteDirectory(Path.Combine(_folder, "a"));
        Assert.False(_files.DirectoryExists(inner));
    }

    [Fact]
    public void ActorThread_WakesAndDeadlines_PollWithoutLosingAny()
    {
        var actor = new CountingActor();
        using var thread = new ActorThread(actor, SystemClock.Instance, new ProcessFatal((_, _) => { }));
        thread.Start();
        for (int i = 0; i < 20_000; i++)
        {
            Assert.True(actor.Ring.TryEnqueue(i));
            thread.Wake();
            if (i % 64 == 0)
            {
                // Let the actor fall asleep now and then; a lost wake would hang here.
                Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref actor.Taken) == i + 1, 10_000));
            }

            while (actor.Ring.Count > 100)
            {
                Thread.Yield();
            }
        }

        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref actor.Taken) == 20_000, 10_000));
        int ticks = Volatile.Read(ref actor.Ticks);
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref actor.Ticks) > ticks + 5, 10_000), "deadlines fire");
    }

    [Fact]
    public void Pool_BlocksReturned_AreReusedAndDoubleReturnIsCaught()
    {
        var pool = new NativePool();
        NativeBlock* a = pool.Rent(300);
        Assert.True(a->Capacity >= 300);
        pool.Return(a);
        Assert.True(a == pool.Rent(512));
        pool.Return(a);
        Assert.Throws<InvariantException>(() => pool.Return(a));
        NativeBlock* big = pool.Rent(10 << 20);
        long held = pool.AllocatedBytes;
        pool.Return(big);
        Assert.True(pool.AllocatedBytes <= held - (10 << 20));
    }

    [Fact]
    public void Buffer_Growing_KeepsItsBytes()
    {
        var buffer = new NativeBuffer(new NativePool());
        var expected = new MemoryStream();
        var random = new Random(3);
        for (int i = 0; i < 200; i++)
        {
            byte[] piece = new byte[random.Next(3000)];
            random.NextBytes(piece);
            buffer.Write(piece);
            expected.Write(piece);
        }

        Assert.Equal(expected.ToArray(), buffer.WrittenSpan.ToArray());
        buffer.Reset();
        Assert.Equal(0, buffer.Length);
        buffer.Free();
    }

    private sealed class CountingActor : IActor
    {
        public readonly SpscRing<int> Ring = new(128);
        public int Taken;
        public int Ticks;
        private long _next;

        public string RoleName => "count";

        public long NextDeadlineNs => _next;

        public bool Poll(long nowNs)
        {
            bool any = false;
            while (Ring.TryDequeue(out _))
            {
                Volatile.Write(ref Taken, Taken + 1);
                any = true;
            }

            if (nowNs >= _next)
            {
                _next = nowNs + 1_000_000;
                Volatile.Write(ref Ticks, Ticks + 1);
            }

            return any;
        }
    }
}
