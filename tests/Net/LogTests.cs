using System;
using System.Collections.Generic;
using System.IO;
using System.Text;
using System.Text.Json;
using System.Threading;
using Cairn.Native.Logging;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class LogTests
{
    private static readonly DateTimeOffset Moment = new(2026, 11, 23, 21, 8, 40, 123, 456, TimeSpan.FromHours(2));

    [Fact]
    public void Line_InJson_HasEtcdsFieldsInOrder()
    {
        string line = Format(console: false, [new("memberId", 7UL), new("took", TimeSpan.FromMilliseconds(1500)), new("urls", new[] { "a", "b" })]);
        Assert.Equal(
            "{\"level\":\"warn\",\"ts\":\"2026-11-23T21:08:40.123456+0200\",\"caller\":\"server/x.cs\",\"msg\":\"hello\","
            + "\"member-id\":7,\"took\":\"1.5s\",\"urls\":[\"a\",\"b\"]}\n",
            line);
    }

    [Fact]
    public void Line_OnTheConsole_HasTabs()
    {
        Assert.Equal("2026-11-23T21:08:40.123456+0200\twarn\tserver/x.cs\thello\n", Format(console: true, []));
        Assert.Equal("2026-11-23T21:08:40.123456+0200\twarn\tserver/x.cs\thello\t{\"a\":1}\n", Format(console: true, [new("a", 1)]));
    }

    [Fact]
    public void Line_WithOddText_IsStillOneLineOfJson()
    {
        string line = Format(console: false, [new("x", "a\"b\nc\u0001\\ é"), new("y", double.NaN), new("z", null)]);
        Assert.Equal(1, line.Split('\n').Length - 1);
        using JsonDocument parsed = JsonDocument.Parse(line);
        Assert.Equal("a\"b\nc\u0001\\ é", parsed.RootElement.GetProperty("x").GetString());
    }

    [Fact]
    public void Line_InUtc_EndsInZ()
        => Assert.Equal("2026-11-23T19:08:40.123456Z", LogFormatter.Timestamp(Moment.ToUniversalTime()));

    [Theory]
    [InlineData("memberId", "member-id")]
    [InlineData("dataDir", "data-dir")]
    [InlineData("HTTPStatus", "httpstatus")]
    [InlineData("plain", "plain")]
    [InlineData("with-dash", "with-dash")]
    public void Field_Name_BecomesEtcds(string name, string expected) => Assert.Equal(expected, LogFormatter.FieldName(name));

    [Fact]
    public void Sink_ManyThreads_LosesNothingBelowItsBound()
    {
        string path = Path.Combine(Path.GetTempPath(), "cairn-log-" + Guid.NewGuid().ToString("N"));
        try
        {
            var options = new LogOptions([path], LogLevels.Level.Info, Console: false);
            var formatter = new LogFormatter(console: false);
            using (var sink = new LogSink(options, formatter))
            using (var provider = new LogProvider(sink, formatter, options.Level))
            {
                sink.Start();
                var threads = new List<Thread>();
                for (int t = 0; t < 4; t++)
                {
                    int mine = t;
                    var thread = new Thread(() =>
                    {
                        for (int i = 0; i < 1000; i++)
                        {
                            provider.Write(LogLevels.Level.Info, "c", "line", new KeyValuePair<string, object?>("n", (mine * 1000) + i));
                        }
                    });
                    threads.Add(thread);
                    thread.Start();
                }

                threads.ForEach(t => t.Join());
            }

            string[] lines = File.ReadAllLines(path);
            var seen = new HashSet<int>();
            foreach (string line in lines)
            {
                using JsonDocument parsed = JsonDocument.Parse(line);
                seen.Add(parsed.RootElement.GetProperty("n").GetInt32());
            }

            Assert.Equal(4000, lines.Length);
            Assert.Equal(4000, seen.Count);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void Sink_FullRing_DropsAndSaysSo()
    {
        string path = Path.Combine(Path.GetTempPath(), "cairn-log-" + Guid.NewGuid().ToString("N"));
        try
        {
            var options = new LogOptions([path], LogLevels.Level.Info, Console: false);
            var formatter = new LogFormatter(console: false);
            using (var sink = new LogSink(options, formatter))
            using (var provider = new LogProvider(sink, formatter, options.Level))
            {
                // The writer thread is not started: its output stands still.
                for (int i = 0; i < 10_000; i++)
                {
                    provider.Write(LogLevels.Level.Info, "c", "line");
                }

                Assert.InRange(sink.Dropped, 1, 9_999);
                long dropped = sink.Dropped;
                sink.Flush();
                string[] lines = File.ReadAllLines(path);
                Assert.Equal(10_000 - dropped + 1, lines.Length);
                Assert.Contains("\"dropped-lines\":" + dropped, lines[^1], StringComparison.Ordinal);
            }
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void Sink_PathThatCannotBeOpened_SaysItAsEtcd()
    {
        var options = new LogOptions(["/nonexistent/x.log"], LogLevels.Level.Info, Console: false);
        IOException e = Assert.Throws<IOException>(() => new LogSink(options, new LogFormatter(console: false)));
        Assert.Equal("open sink \"/nonexistent/x.log\": open /nonexistent/x.log: no such file or directory", e.Message);
    }

    [Fact]
    public void Logger_BelowItsLevel_IsSilent()
    {
        var formatter = new LogFormatter(console: false);
        using var sink = new LogSink(new LogOptions([], LogLevels.Level.Warn, Console: false), formatter);
        using var provider = new LogProvider(sink, formatter, LogLevels.Level.Warn);
        Assert.False(provider.CreateLogger("x").IsEnabled(LogLevel.Information));
        Assert.True(provider.CreateLogger("x").IsEnabled(LogLevel.Warning));
        Assert.False(provider.CreateLogger("Microsoft.AspNetCore.Server.Kestrel").IsEnabled(LogLevel.Warning));
        Assert.True(provider.CreateLogger("Microsoft.AspNetCore.Server.Kestrel").IsEnabled(LogLevel.Error));
    }

    private static string Format(bool console, KeyValuePair<string, object?>[] fields)
    {
        (byte[] buffer, int length) = new LogFormatter(console, () => Moment).Format(
            LogLevels.Level.Warn, "server/x.cs", "hello", fields, null);
        return Encoding.UTF8.GetString(buffer, 0, length);
    }
}
